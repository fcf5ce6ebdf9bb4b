"""Which kernels an engine computes with: what is asked for, or a refusal that says what to do; the
reference by itself for "auto" alone, and with a warning."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.fakes.checkpoints import LlamaShape, random_llama, write_llama
from tests.kernels.native import AVAILABLE, folder, library

from furcate.errors import CapacityError, ModelFileError, UsageError
from furcate.runtime.config import Config, EngineConfig, resolve
from furcate.runtime.engine.executor import ModelExecutor
from furcate.runtime.engine.native import NativeExecutor
from furcate.runtime.model.load import why_not_native
from furcate.runtime.server.build import build_executor
from furcate.runtime.server.kernels import choose_library, make_pool, reference_dtype

if TYPE_CHECKING:
    from furcate.runtime.flags import Scalar

SMALL = LlamaShape(hidden_size=96, ffn_size=160, num_heads=6, kv_heads=2, head_dim=16)
NARROW = replace(SMALL, num_heads=4, head_dim=24)  # not a multiple of a register
OPTIONS: dict[str, Scalar] = {"kv_bytes": 2**20}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("models")
    for name, shape in (("small", SMALL), ("narrow", NARROW)):
        write_llama(where / f"{name}.gguf", random_llama("Q8_0", shape=shape), shape)
    return where


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of a user who has the kernels of this machine."""
    library(AVAILABLE[0])
    (tmp_path / "furcate").mkdir()
    (tmp_path / "furcate" / "kernels").symlink_to(folder())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a compiler, and nothing built. The folder on its PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return programs


@pytest.fixture
def broken_compiler(no_compiler: Path) -> None:
    program = no_compiler / "g++"
    program.write_text("#!/bin/sh\necho 'out of order' >&2\nexit 1\n")
    program.chmod(0o755)


def config(model: Path, **options: Scalar) -> Config:
    return resolve({"model": str(model), **OPTIONS, **options}, {})


def thread_ids() -> set[int]:
    return {int(path.name) for path in Path("/proc/self/task").iterdir()}


@pytest.mark.usefixtures("no_compiler")
def test_auto_takes_the_reference_where_there_is_no_compiler_and_warns(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert choose_library(EngineConfig()) is None
    assert "the reference in torch" in caplog.text
    assert "none of g++, clang++; install" in caplog.text


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("tier", AVAILABLE)
def test_named_kernels_without_a_compiler_are_refused(tier: str) -> None:
    message = rf"--kernels {tier}: .* none of g\+\+, clang\+\+; install"
    with pytest.raises(UsageError, match=message):
        choose_library(resolve({"kernels": tier}, {}).engine)


@pytest.mark.usefixtures("broken_compiler")
def test_a_compiler_that_fails_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_library(EngineConfig()) is None
    assert "out of order" in caplog.text
    with pytest.raises(UsageError, match=r"(?s)--kernels portable: compiling .*out of order"):
        choose_library(EngineConfig(kernels="portable"))


def test_kernels_that_this_processor_does_not_run_are_refused_with_those_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("furcate.kernels.library.available_tiers", lambda: ("avx2", "portable"))
    message = "--kernels avx512: this processor does not run .* 'auto' or one of avx2, portable"
    with pytest.raises(UsageError, match=message):
        choose_library(EngineConfig(kernels="avx512"))


@pytest.mark.usefixtures("no_compiler")
def test_the_reference_needs_no_compiler(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert choose_library(EngineConfig(kernels="reference")) is None
    assert [record.levelname for record in caplog.records] == ["INFO"]


@pytest.mark.usefixtures("built")
def test_the_choice_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        chosen = choose_library(EngineConfig())
    assert chosen is not None
    assert chosen.tier == AVAILABLE[0]
    assert [record.message for record in caplog.records] == [
        f"kernels: {AVAILABLE[0]}, from {chosen.path}"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"matmul": "int8"}, "--matmul int8 needs native kernels"),
        ({"kv_dtype": "int8"}, "--kv-dtype int8 needs native kernels"),
        ({"kv_dtype": "fp32"}, "--kv-dtype fp32: the reference stores what it computes in"),
        ({"matmul": "fp32", "kv_dtype": "bf16"}, "use --matmul bf16, or --kv-dtype auto"),
    ],
)
def test_the_reference_refuses_numbers_that_it_has_not(
    models: Path, options: dict[str, Scalar], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build_executor(config(models / "small.gguf", kernels="reference", **options))


@pytest.mark.parametrize(
    ("matmul", "kv_dtype", "dtype"),
    [
        ("auto", "auto", "auto"),
        ("fp32", "auto", "float32"),
        ("fp32", "fp32", "float32"),
        ("bf16", "bf16", "bfloat16"),
    ],
)
def test_the_reference_computes_in_what_is_asked_for(
    matmul: str, kv_dtype: str, dtype: str
) -> None:
    assert reference_dtype(resolve({"matmul": matmul, "kv_dtype": kv_dtype}, {})) == dtype


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kv_dtype": "fp32"}, UsageError, "--kv-dtype fp32 needs --kernels reference"),
        ({"page_size": 8}, UsageError, "pages of 16, 32, 64, 128 or 256 tokens; take one"),
        ({"page_size": 48}, UsageError, "--page-size 48: .* or --kernels reference"),
        ({"page_size": 512}, UsageError, "--page-size 512"),
        ({"kv_bytes": 2**12}, CapacityError, "this model needs"),
    ],
)
def test_native_kernels_refuse_what_they_cannot_do_and_leave_no_thread(
    models: Path, options: dict[str, Scalar], error: type[Exception], message: str
) -> None:
    before = thread_ids()
    with pytest.raises(error, match=message):
        build_executor(config(models / "small.gguf", **options))
    assert thread_ids() <= before


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("kv_dtype", ["auto", "bf16", "int8"])
@pytest.mark.parametrize("matmul", ["auto", "int8", "bf16", "fp32"])
def test_native_kernels_take_every_other_combination(
    models: Path, matmul: str, kv_dtype: str
) -> None:
    before = thread_ids()
    options: dict[str, Scalar] = {"matmul": matmul, "kv_dtype": kv_dtype, "threads": 2}
    executor = build_executor(config(models / "small.gguf", **options))
    assert isinstance(executor, NativeExecutor)
    token_bytes = 2 * 2 * 2 * (20 if kv_dtype == "int8" else 32)
    assert executor.num_pages == 2**20 // (16 * token_bytes)
    executor.close()
    assert thread_ids() <= before


@pytest.mark.usefixtures("built")
def test_auto_runs_a_shape_that_kernels_do_not_read_on_the_reference_and_warns(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    narrow = models / "narrow.gguf"
    executor = build_executor(config(narrow))
    assert isinstance(executor, ModelExecutor)
    assert "native ones cannot run heads of 24 dimensions" in caplog.text
    with pytest.raises(UsageError, match="--matmul int8 needs native kernels"):
        build_executor(config(narrow, matmul="int8"))


@pytest.mark.usefixtures("built")
def test_named_kernels_are_never_replaced_by_the_reference(models: Path) -> None:
    before = thread_ids()
    with pytest.raises(ModelFileError, match=r"heads of 24 dimensions.* use --kernels reference"):
        build_executor(config(models / "narrow.gguf", kernels=AVAILABLE[0]))
    assert thread_ids() <= before


def test_what_keeps_a_file_from_native_kernels_is_read_from_its_header(models: Path) -> None:
    assert why_not_native(models / "small.gguf") is None
    assert "heads of 24" in str(why_not_native(models / "narrow.gguf"))


def test_threads_are_every_core_unless_told_and_pinned_to_one_each_if_told() -> None:
    chosen, cores = library(AVAILABLE[0]), sorted(os.sched_getaffinity(0))
    with make_pool(EngineConfig(), chosen) as pool:
        assert pool.num_threads == len(cores)
    with make_pool(EngineConfig(threads=3), chosen) as pool:
        assert pool.num_threads == 3
    before = thread_ids()
    with make_pool(EngineConfig(pin_threads=True), chosen):
        own = [os.sched_getaffinity(thread) for thread in sorted(thread_ids() - before)]
        assert sorted(map(tuple, own)) == [(core,) for core in cores[1:]]
    with pytest.raises(UsageError, match="--pin-threads: there are"):
        make_pool(EngineConfig(pin_threads=True, threads=len(cores) + 1), chosen)
