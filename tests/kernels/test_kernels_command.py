"""`furcate kernels`: what it prints and with which status it ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from furcate.cli.app import app
from furcate.kernels import operations
from furcate.kernels.build import find_compiler, plan

from .native import AVAILABLE, library

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler on PATH"),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "furcate" / "kernels"


@pytest.fixture
def built(cache: Path) -> Path:
    """The folder, with the library of the portable tier, which other tests have compiled."""
    whole = library("portable").path
    cache.mkdir(parents=True)
    (cache / whole.name).write_bytes(whole.read_bytes())
    assert plan("portable", cache).built() is not None
    return cache


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["kernels", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_a_list_shows_tiers_libraries_and_operations(built: Path) -> None:
    status, shown, _ = run("list")
    assert status == 0
    lines = {line.split()[0]: line for line in shown.splitlines() if line}
    assert str(built) in lines["folder"]
    assert lines["portable"].split() == ["portable", "yes", str(plan("portable", built).built())]
    for tier in AVAILABLE[:-1]:
        assert "not built" in lines[tier]
    assert {"pool", "linear", "paged_attention"} <= set(operations.names()) <= set(lines)


def test_a_list_needs_no_compiler_and_builds_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    status, shown, _ = run("list")
    assert status == 0
    assert "compiler  none: PATH has none of g++, clang++" in shown
    assert not cache.exists()


def test_a_build_without_a_compiler_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    status, shown, message = run("build", "--tier", "portable")
    assert (status, shown) == (1, "")
    assert message.startswith("furcate: error: the kernels need a C++ compiler and PATH has none")


def test_a_build_prints_what_is_there(built: Path) -> None:
    status, shown, _ = run("build", "--tier", "portable")
    assert status == 0
    assert shown.split() == ["portable", str(plan("portable", built).path)]


def test_an_unknown_tier_is_told() -> None:
    status, _, message = run("build", "--tier", "sse9")
    assert status == 1
    assert "tier must be 'auto' or one of avx512, avx2, portable, got 'sse9'" in message


def test_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    status, _, message = run("build", "--tier", "portable")
    assert status == 1
    assert "the kernels cannot be kept in" in message
    assert "set XDG_CACHE_HOME to a writable folder" in message


@pytest.mark.usefixtures("built")
def test_a_check_compares_what_has_a_check() -> None:
    status, shown, _ = run("check", "--tier", "portable", "--threads", "2")
    assert status == 0, shown
    assert shown.startswith("portable, 2 threads\n")
    assert all(operations.has(name, "check") for name in ("sample", "forward", "linear"))
    for name in operations.names():
        said = "ok" if operations.has(name, "check") else "no check"
        assert f"{name}: {said}" in shown.splitlines()


def test_a_check_of_all_tiers_names_each(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("furcate.cli.kernels._check_operations", lambda library, pool: 0)
    cache.mkdir(parents=True)
    for tier in AVAILABLE:
        whole = library(tier).path
        (cache / whole.name).write_bytes(whole.read_bytes())
    status, shown, _ = run("check", "--tier", "all", "--threads", "1")
    assert status == 0
    assert shown.splitlines() == [f"{tier}, 1 threads" for tier in AVAILABLE]


@pytest.mark.usefixtures("built")
def test_a_mistake_is_shown_and_ends_with_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("furcate.kernels.pool.check.check", lambda library, pool: ["it is late"])
    status, shown, _ = run("check", "--tier", "portable")
    assert status == 1
    assert "pool: WRONG\n  it is late" in shown


@pytest.mark.usefixtures("built")
def test_a_benchmark_begins_with_the_peaks() -> None:
    status, shown, _ = run("bench", "--tier", "portable", "--threads", "1", "--op", "pool")
    assert status == 0
    assert shown.startswith("portable, 1 threads: int8 ")
    status, shown, _ = run("bench", "--tier", "portable", "--op", "pool", "--json")
    assert json.loads(shown)["cases"] == []
    assert set(json.loads(shown)["peaks"]["flops"]) == {"int8", "q8", "bf16", "fp32"}


def test_an_unknown_operation_is_told() -> None:
    status, _, message = run("bench", "--op", "poool")
    assert status == 1
    assert "op must be one of " in message
    assert "got 'poool'" in message
