"""The kernels under sanitizers: no byte outside a buffer, no undefined operation, no race.

Programs of C++ alone, without Python and torch, run every operation over edge sizes; see
`sanitize/`. A new operation adds a file there.
"""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from furcate.kernels.build import PACKAGE, Compiler, find_compiler, plan

from .native import AVAILABLE

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(900)]

PROGRAMS = Path(__file__).parent / "sanitize"
NAMES = sorted(path.stem for path in PROGRAMS.glob("*.cpp"))
MEMORY = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
RACES = ("-fsanitize=thread",)
COMPILES_AT_ONCE = 2
# Everything but how much is optimised and what it is made for: the instruction set matters, because
# each has code of its own.
LEFT_OUT = {"-O3", "-fPIC", "-fvisibility=hidden"}


def compiler() -> Compiler:
    found = find_compiler()
    if found is None:
        pytest.skip("no C++ compiler on PATH")
    return found


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )


def flags(tier: str, sanitizer: tuple[str, ...]) -> list[str]:
    of_tier = [flag for flag in plan(tier, Path()).flags if flag not in LEFT_OUT]
    return [*of_tier, "-g", "-O1", *sanitizer, f"-I{PACKAGE / 'include'}", f"-I{PROGRAMS}"]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory):
    """Compiles all kernels of a tier once; for the programs to be linked with."""
    path = compiler().path
    made: dict[tuple[str, tuple[str, ...]], list[Path]] = {}

    def compiled(tier: str, sanitizer: tuple[str, ...]) -> list[Path]:
        if (tier, sanitizer) in made:
            return made[tier, sanitizer]
        folder = tmp_path_factory.mktemp(tier)
        empty = folder / "empty.cpp"
        empty.write_text("int main() {}\n")
        if run(path, *sanitizer, empty, "-o", folder / "empty").returncode:
            pytest.skip(f"{path} has no {sanitizer[0]}")

        def one(source: Path) -> Path:
            target = folder / f"{source.parent.name}-{source.stem}.o"
            done = run(path, *flags(tier, sanitizer), "-c", source, "-o", target)
            assert done.returncode == 0, done.stderr
            return target

        with ThreadPoolExecutor(COMPILES_AT_ONCE) as threads:
            made[tier, sanitizer] = list(threads.map(one, sorted(PACKAGE.glob("*/*.cpp"))))
        return made[tier, sanitizer]

    return compiled


def program(objects, tier: str, sanitizer: tuple[str, ...], name: str, folder: Path) -> Path:
    target = folder / name
    parts = [PROGRAMS / f"{name}.cpp", *objects(tier, sanitizer)]
    done = run(compiler().path, *flags(tier, sanitizer), *parts, "-o", target)
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tier", AVAILABLE)
def test_no_byte_outside_and_nothing_undefined(
    objects, tmp_path: Path, tier: str, name: str
) -> None:
    done = run(program(objects, tier, MEMORY, name, tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "ok\n"


@pytest.mark.parametrize("name", NAMES)
def test_threads_do_not_race(objects, tmp_path: Path, name: str) -> None:
    path = program(objects, "portable", RACES, name, tmp_path)
    # The sanitizer's map of memory does not suit every layout that a kernel may draw.
    fixed = ("setarch", "-R") if shutil.which("setarch") else ()
    done = run(*fixed, path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "ok\n"
