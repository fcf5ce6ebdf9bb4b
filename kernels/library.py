"""The kernels' shared library as Python sees it: which tiers this machine runs, loading, threads.

Knows no operation: `kernels/<op>/native.py` declares the functions of its own. Nothing here is
chosen behind the caller's back; whoever loads says once in the log what was loaded.
"""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .build import TIERS, build

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

__all__ = ["Library", "Pool", "available_tiers", "check_sizes", "declare", "load"]

# Names of /proc/cpuinfo that a tier's code needs.
NEEDS: Mapping[str, frozenset[str]] = {
    "avx512": frozenset(
        {
            *("avx2", "fma", "f16c", "bmi2", "avx512f", "avx512bw", "avx512vl", "avx512dq"),
            *("avx512_vnni", "avx512_bf16"),
        }
    ),
    "avx2": frozenset({"avx2", "fma", "f16c", "bmi2"}),
    "portable": frozenset(),
}


@dataclass(frozen=True, slots=True)
class Library:
    """A loaded library. It stays loaded as long as the process lives."""

    tier: str
    path: Path
    lib: ctypes.CDLL


def available_tiers(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """The tiers whose code this processor runs, best first."""
    flags: set[str] = set()
    if platform.machine() in {"x86_64", "AMD64"} and cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "flags":
                flags = set(value.split())
                break
    return tuple(tier for tier in TIERS if NEEDS[tier] <= flags)


def load(tier: str, folder: Path, ops: Sequence[str] = ()) -> Library:
    """The library of a tier, built in `folder` where it is not there; "auto" is the best tier.

    CompilerMissing where it has to be built and cannot be. A named tier is never replaced. `ops` as
    in `build`.
    """
    here = available_tiers()
    chosen = here[0] if tier == "auto" else tier
    if chosen not in TIERS:
        raise ValueError(f"tier must be 'auto' or one of {', '.join(TIERS)}, got {tier!r}")
    if chosen not in here:
        raise ValueError(
            f"this processor does not run the kernels of tier {tier!r}; use 'auto' or one of "
            f"{', '.join(here)}"
        )
    path = build(chosen, folder, ops)
    return Library(chosen, path, ctypes.CDLL(str(path)))


def check_sizes(lib: ctypes.CDLL, structures: Mapping[str, type[ctypes.Structure]]) -> None:
    """AssertionError where a mirror of a C++ struct has another size than `fc_sizeof_<name>()`."""
    for name, structure in structures.items():
        function = lib[f"fc_sizeof_{name}"]
        function.argtypes, function.restype = [], ctypes.c_size_t
        there, here = function(), ctypes.sizeof(structure)
        assert there == here, f"{name} has {there} bytes in C++ and {here} in Python"


def declare(lib: ctypes.CDLL, functions: Mapping[str, tuple[Sequence[type], type | None]]) -> None:
    """Tells ctypes the arguments and the result of functions, by name."""
    for name, (arguments, result) in functions.items():
        function = getattr(lib, name)  # kept by the library, so that this holds for its next user
        function.argtypes, function.restype = arguments, result


class Pool:
    """Threads for the calls of one library; the thread that calls is one of them.

    One call at a time uses it, others wait. `handle` is what native functions take.
    """

    def __init__(
        self, library: Library, num_threads: int, cpus: Sequence[int] | None = None
    ) -> None:
        if num_threads < 1:
            raise ValueError(f"num_threads must be >= 1, got {num_threads}")
        if cpus is not None and len(cpus) != num_threads:
            raise ValueError(f"cpus must name one CPU a thread: {len(cpus)} for {num_threads}")
        lib = library.lib
        declare(
            lib,
            {
                "fc_pool_new": ([ctypes.c_int32, ctypes.POINTER(ctypes.c_int32)], ctypes.c_void_p),
                "fc_pool_free": ([ctypes.c_void_p], None),
                "fc_pool_touch": (
                    [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64],
                    None,
                ),
            },
        )
        pinned = None if cpus is None else (ctypes.c_int32 * num_threads)(*cpus)
        self.library = library
        self.num_threads = num_threads
        self._process = os.getpid()
        self._address: int | None = lib.fc_pool_new(num_threads, pinned)
        if self._address is None:
            where = "" if cpus is None else f" on CPUs {list(cpus)}"
            raise OSError(f"{num_threads - 1} threads could not be started{where}")

    @property
    def handle(self) -> ctypes.c_void_p:
        if self._address is None:
            raise ValueError("the pool is closed")
        return ctypes.c_void_p(self._address)

    def touch(self, starts: Sequence[int], num_bytes: int) -> None:
        """Has the system provide `num_bytes` of memory from each address on, before it is used."""
        addresses = (ctypes.c_void_p * len(starts))(*starts)
        self.library.lib.fc_pool_touch(self.handle, addresses, len(starts), num_bytes)

    def close(self) -> None:
        """Ends the threads. Again: nothing."""
        address, self._address = self._address, None
        if address is not None and self._process == os.getpid():  # a fork has no such threads
            self.library.lib.fc_pool_free(address)

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
