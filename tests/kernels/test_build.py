"""Compiling: once for the same content, whole or not at all, and clear about what is missing."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import furcate
from furcate.kernels import build as building
from furcate.kernels.build import BuildFailed, CompilerMissing, build, find_compiler, plan
from furcate.kernels.library import available_tiers, check_sizes, load

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler on PATH")
pytestmark = [needs_compiler, pytest.mark.slow]

TOY = """
#include "api.h"
#include "number.h"
FC_API int fc_toy() { return NUMBER; }
FC_API unsigned long fc_sizeof_Toy() { return 12; }
"""
BUILD_ONCE = """
import sys
from pathlib import Path
from furcate.kernels.build import build
build("portable", Path(sys.argv[1]), package=Path(sys.argv[2]))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder of kernels as small as can be."""
    folder = tmp_path / "package"
    (folder / "toy").mkdir(parents=True)
    (folder / "include").mkdir()
    shutil.copy(building.PACKAGE / "include" / "api.h", folder / "include")
    (folder / "include" / "number.h").write_text("#pragma once\n#define NUMBER 7\n")
    (folder / "toy" / "cpu.cpp").write_text(TOY)
    return folder


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the only compiler on PATH was asked, a line a call."""
    compiler = find_compiler()
    assert compiler is not None
    log = tmp_path / "calls"
    log.touch()
    folder = tmp_path / "bin"
    folder.mkdir()
    script = f'#!/bin/sh\necho "$@" >> {log}\nPATH={os.environ["PATH"]} exec {compiler.path} "$@"\n'
    (folder / "g++").write_text(script)
    (folder / "g++").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return log


def compiles(calls: Path) -> int:
    return sum(" -c " in line for line in calls.read_text().splitlines())


def answer(path: Path) -> int:
    # A name of its own, because the loader takes a file that it knows for the same.
    copy = path.with_suffix(f".{path.stat().st_mtime_ns}.copy")
    shutil.copy(path, copy)
    return int(ctypes.CDLL(str(copy)).fc_toy())


def test_what_is_built_is_found_again(package: Path, tmp_path: Path, calls: Path) -> None:
    first = build("portable", tmp_path / "out", package=package)
    assert answer(first) == 7
    assert compiles(calls) == 1
    assert build("portable", tmp_path / "out", package=package) == first
    assert compiles(calls) == 1
    assert not list((tmp_path / "out").glob(".build-*"))


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [("toy/cpu.cpp", "return NUMBER", "return NUMBER + 1"), ("include/number.h", "7", "8")],
)
def test_a_changed_source_or_header_is_another_library(
    package: Path, tmp_path: Path, name: str, before: str, after: str
) -> None:
    first = build("portable", tmp_path / "out", package=package)
    (package / name).write_text((package / name).read_text().replace(before, after))
    second = build("portable", tmp_path / "out", package=package)
    assert second != first
    assert answer(second) == 8


def test_flags_tier_and_compiler_are_part_of_the_name(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name(tier: str) -> str:
        return plan(tier, tmp_path, package=package).path.name

    names = {name("portable"), name("avx2")}
    monkeypatch.setattr(building, "FLAGS", (*building.FLAGS, "-g"))
    names.add(name("portable"))
    monkeypatch.setattr(building, "find_compiler", lambda: building.Compiler("/g++", "g++ 99"))
    names.add(name("portable"))
    assert len(names) == 4


def test_without_a_compiler_the_error_names_those_looked_for(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CompilerMissing, match=r"none of g\+\+, clang\+\+; install"):
        build("portable", tmp_path / "out", package=package)
    assert not (tmp_path / "out").exists()


def test_a_library_built_before_needs_no_compiler(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build("portable", tmp_path / "out", package=package)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build("portable", tmp_path / "out", package=package) == built


def test_two_processes_at_once_build_once(package: Path, tmp_path: Path, calls: Path) -> None:
    sources = Path(furcate.__file__).parent.parent
    command = [sys.executable, "-c", BUILD_ONCE, str(tmp_path / "out"), str(package)]
    environ = {**os.environ, "PYTHONPATH": str(sources)}
    both = [subprocess.Popen(command, env=environ) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert compiles(calls) == 1


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty"])
def test_a_damaged_library_is_built_again(package: Path, tmp_path: Path, damage: str) -> None:
    path = build("portable", tmp_path / "out", package=package)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"truncated": content[:-100], "changed": content, "empty": b""}[damage]
    path.write_bytes(damaged)
    assert plan("portable", tmp_path / "out", package=package).built() is None
    assert answer(build("portable", tmp_path / "out", package=package)) == 7


def test_a_source_that_does_not_compile_is_quoted_and_leaves_nothing(
    package: Path, tmp_path: Path
) -> None:
    (package / "toy" / "broken.cpp").write_text("int broken() { return missing_name; }\n")
    with pytest.raises(BuildFailed, match=r"(?s)broken\.cpp failed with status 1.*missing_name"):
        build("portable", tmp_path / "out", package=package)
    assert not list((tmp_path / "out").glob("*.so"))
    assert not list((tmp_path / "out").glob(".build-*"))


def test_a_function_that_nobody_defines_is_told_by_the_build(package: Path, tmp_path: Path) -> None:
    (package / "toy" / "half.cpp").write_text("void other_half();\nvoid half() { other_half(); }\n")
    with pytest.raises(BuildFailed, match=r"(?s)linking the kernels failed.*other_half"):
        build("portable", tmp_path / "out", package=package)


def test_old_libraries_are_deleted(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "KEPT_LIBRARIES", 2)
    monkeypatch.setattr(building, "KEPT_OBJECTS", 2)
    out = tmp_path / "out"
    for number in range(4):
        (package / "include" / "number.h").write_text(f"#define NUMBER {number}\n")
        last = build("portable", out, package=package)
    assert len(list(out.glob("*.so"))) == 2
    assert len(list((out / "objects").glob("*.o"))) == 2
    assert answer(last) == 3


def test_an_unknown_tier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tier must be 'auto' or one of avx512, avx2, portable"):
        load("sse9", tmp_path)


def test_a_tier_that_the_processor_lacks_is_refused_and_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("furcate.kernels.library.available_tiers", lambda: ("portable",))
    with pytest.raises(ValueError, match="does not run the kernels of tier 'avx2'; use 'auto' or"):
        load("avx2", tmp_path)


@pytest.mark.parametrize(
    ("flags", "tiers"),
    [
        ("", ("portable",)),
        ("avx avx2 fma f16c", ("portable",)),
        ("avx2 fma f16c bmi2", ("avx2", "portable")),
        ("avx2 fma f16c bmi2 avx512f avx512bw avx512vl avx512dq", ("avx2", "portable")),
        (
            "avx2 fma f16c bmi2 avx512f avx512bw avx512vl avx512dq avx512_vnni avx512_bf16",
            ("avx512", "avx2", "portable"),
        ),
    ],
)
def test_tiers_follow_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, tiers: tuple[str, ...]
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
    assert available_tiers(cpuinfo) == tiers


def test_a_struct_of_another_size_is_found(package: Path, tmp_path: Path) -> None:
    class Same(ctypes.Structure):
        _fields_ = [("a", ctypes.c_int32 * 3)]

    class Longer(ctypes.Structure):
        _fields_ = [("a", ctypes.c_int32 * 4)]

    lib = ctypes.CDLL(str(build("portable", tmp_path / "out", package=package)))
    check_sizes(lib, {"Toy": Same})
    with pytest.raises(AssertionError, match="Toy has 12 bytes in C\\+\\+ and 16 in Python"):
        check_sizes(lib, {"Toy": Longer})
