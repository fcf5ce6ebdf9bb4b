"""Times the probe's loops: the peaks of this machine on a pool's threads."""

from __future__ import annotations

import ctypes
import functools
from typing import TYPE_CHECKING

import numpy as np

from furcate.kernels.bench import BenchCase, Peaks, measure

if TYPE_CHECKING:
    from furcate.kernels.bench import Unit
    from furcate.kernels.library import Library, Pool

__all__ = ["peaks"]

READ_BYTES = 256 << 20  # far more than caches hold
NUM_TASKS = 64
UNITS: tuple[Unit, ...] = ("int8", "q8", "bf16", "fp32")


def peaks(library: Library, pool: Pool) -> Peaks:
    """Measures for about a second. A peak is the best of some repeats: others may use the cores."""
    flops: dict[Unit, float] = {}
    for unit in UNITS:
        function = library.lib[f"fc_probe_{unit}"]
        function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_int64], ctypes.c_double
        work = function(pool.handle, NUM_TASKS)
        compute = functools.partial(function, pool.handle, NUM_TASKS)
        flops[unit] = work / measure(BenchCase(unit, compute, work, 0, unit), pick=min)
    return Peaks(pool.num_threads, flops, _bandwidth(library, pool))


def _bandwidth(library: Library, pool: Pool) -> float:
    buffer = np.ones(READ_BYTES // 8)
    function = library.lib.fc_probe_read
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    function.restype = None

    def read() -> None:
        function(pool.handle, buffer.ctypes.data, buffer.nbytes)

    return READ_BYTES / measure(BenchCase("read", read, 0, READ_BYTES, "fp32"), pick=min)
