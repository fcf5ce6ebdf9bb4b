"""Compiles the C++ of all kernels into one shared library of a tier, once per machine and content.

The file's name holds a digest of everything that decides its bytes: sources, flags, compiler and,
where the code is for this processor alone, the processor. A library appears in the caller's folder
whole or not at all, and carries a digest of itself, so that a damaged one is built again. Nothing
is ever written into the package. This module loads nothing that it builds and knows no operation.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "COMPILERS",
    "PACKAGE",
    "TIERS",
    "BuildFailed",
    "Compiler",
    "CompilerMissing",
    "Plan",
    "build",
    "find_compiler",
    "plan",
]

PACKAGE = Path(__file__).resolve().parent
COMPILERS = ("g++", "clang++")
TIERS = ("avx512", "avx2", "portable")  # best first
FLAGS: tuple[str, ...] = (
    *("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-pthread"),
    *("-ffp-contract=off", "-fno-math-errno"),  # one rounding an operation: every tier has its bits
    *("-Wall", "-Wextra", "-Wno-psabi"),
)
X86_FLAGS = {
    "avx512": ("-march=native", "-mprefer-vector-width=512"),
    "avx2": ("-march=x86-64-v3",),
    "portable": ("-march=x86-64",),
}
LINK_FLAGS = (
    "-shared",
    "-pthread",
    "-Wl,-z,defs",
)  # a missing function is told here, not at a load
COMPILES_AT_ONCE = 2
KEPT_LIBRARIES = 8  # of a tier
KEPT_OBJECTS = 120
QUOTED_LINES = 20
DIGEST_CHARACTERS = 64
KEY_CHARACTERS = 20


class CompilerMissing(RuntimeError):
    """There is no C++ compiler on PATH, and no library that was built before."""


class BuildFailed(RuntimeError):
    """The compiler or the linker refused; the message ends with its last lines."""


@dataclass(frozen=True, slots=True)
class Compiler:
    path: str
    version: str  # its first line of `--version`


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be built where. `compiler` is None where PATH has none."""

    tier: str
    flags: tuple[str, ...]
    folder: Path
    sources: tuple[Path, ...]
    package: Path
    content_key: str  # of sources, headers, flags and processor
    compiler: Compiler | None

    @property
    def path(self) -> Path:
        maker = self.compiler.version + self.compiler.path if self.compiler else ""
        return self.folder / f"{self._stem}-{_digest(maker)[:KEY_CHARACTERS]}.so"

    @property
    def _stem(self) -> str:
        return f"furcate-{self.tier}-{self.content_key[:KEY_CHARACTERS]}"

    def built(self) -> Path | None:
        """The library, if it is here and whole; without a compiler, whichever one made it."""
        if self.compiler is not None:
            return self.path if _is_whole(self.path) else None
        return next(
            (p for p in sorted(self.folder.glob(f"{self._stem}-*.so")) if _is_whole(p)), None
        )


def find_compiler() -> Compiler | None:
    """The first of COMPILERS that PATH has."""
    for name in COMPILERS:
        path = shutil.which(name)
        if path is not None:
            done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            return Compiler(path, done.stdout.partition("\n")[0])
    return None


def plan(tier: str, folder: Path, ops: Sequence[str] = (), package: Path = PACKAGE) -> Plan:
    """What `build` would do; compiles nothing."""
    if tier not in TIERS:
        raise ValueError(f"tier must be one of {', '.join(TIERS)}, got {tier!r}")
    flags = FLAGS
    if platform.machine() in {"x86_64", "AMD64"}:
        flags += X86_FLAGS[tier]
    sources = sorted(package.glob("*/*.cpp"))
    if ops:
        sources = [path for path in sources if path.parent.name in ops]
    content = hashlib.sha256(" ".join(flags + LINK_FLAGS).encode())
    for path in sources + _headers(package):
        content.update(f"\0{path.relative_to(package)}\0".encode())
        content.update(path.read_bytes())
    content.update(_processor(flags).encode())
    key = content.hexdigest()
    return Plan(tier, flags, folder, tuple(sources), package, key, find_compiler())


def build(tier: str, folder: Path, ops: Sequence[str] = (), package: Path = PACKAGE) -> Path:
    """The tier's library in `folder`, compiled first where it is not there.

    Of several processes that ask at once one compiles and the others wait for it. `ops` names the
    folders of sources where not all are wanted, as in a test of one operation.
    """
    wanted = plan(tier, folder, ops, package)
    found = wanted.built()
    if found is None and wanted.compiler is None:
        raise CompilerMissing(
            f"the kernels need a C++ compiler and PATH has none of {', '.join(COMPILERS)}; install "
            "one (Debian, Ubuntu: `apt install g++`)"
        )
    if found is None:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            found = wanted.built() or _compile(wanted)
            _remove_old(folder, wanted)
    os.utime(found)  # the ones used last are kept
    return found


def _headers(package: Path) -> list[Path]:
    return sorted(package.glob("include/*.h"))


def _processor(flags: Sequence[str]) -> str:
    """What `-march=native` depends on; the machine's kind otherwise."""
    if "-march=native" not in flags:
        return platform.machine()
    named = ("vendor_id", "cpu family", "model", "stepping", "flags")
    first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    return "\n".join(line for line in first if line.partition("\t")[0].strip() in named)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _is_whole(path: Path) -> bool:
    """Whether the file ends with the digest of what precedes."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    body, digest = content[:-DIGEST_CHARACTERS], content[-DIGEST_CHARACTERS:]
    return hashlib.sha256(body).hexdigest().encode() == digest


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield  # closing unlocks, however the process ends


def _compile(wanted: Plan) -> Path:
    assert wanted.compiler is not None
    common = [wanted.compiler.path, *wanted.flags, f"-I{wanted.package / 'include'}"]
    headers = hashlib.sha256(b"".join(path.read_bytes() for path in _headers(wanted.package)))
    base = " ".join(
        [wanted.compiler.version, headers.hexdigest(), _processor(wanted.flags), *common]
    )
    objects = wanted.folder / "objects"
    objects.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=wanted.folder) as temporary:

        def compiled(source: Path) -> Path:
            key = hashlib.sha256(base.encode() + source.read_bytes()).hexdigest()
            target = objects / f"{source.parent.name}-{key[:KEY_CHARACTERS]}.o"
            if target.exists():
                os.utime(target)
            else:
                fresh = Path(temporary) / target.name
                _run([*common, "-c", str(source), "-o", str(fresh)], f"compiling {source}")
                os.replace(fresh, target)
            return target

        with ThreadPoolExecutor(COMPILES_AT_ONCE) as threads:
            made = list(threads.map(compiled, wanted.sources))
        library = Path(temporary) / "library.so"
        link = [wanted.compiler.path, *LINK_FLAGS, *map(str, made), "-o", str(library)]
        _run(link, "linking the kernels")
        body = library.read_bytes()
        with library.open("ab") as file:  # the loader ignores what follows the last section
            file.write(hashlib.sha256(body).hexdigest().encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(library, wanted.path)
    return wanted.path


def _run(command: Sequence[str], doing: str) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-QUOTED_LINES:])
        raise BuildFailed(f"{doing} failed with status {done.returncode}:\n{last}")


def _remove_old(folder: Path, wanted: Plan) -> None:
    """Deletes all but the libraries and objects that were used last. A process that has loaded one
    keeps it: the file's content lives as long as its mapping."""
    groups = [(folder.glob(f"furcate-{wanted.tier}-*.so"), KEPT_LIBRARIES)]
    groups.append(((folder / "objects").glob("*.o"), KEPT_OBJECTS))
    for paths, kept in groups:
        for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)[kept:]:
            path.unlink(missing_ok=True)
