"""What is wrong with a model is told by name, with what to do: by `furcate serve`, by programs and
by `furcate models inspect`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.e2e.test_cli_messages import message_of, run
from typer.testing import CliRunner

import furcate as fc
from furcate.cli.app import app
from furcate.errors import FurcateError
from furcate.runtime.server import build

pytest.importorskip("transformers")

import torch
from safetensors.torch import load_file, save_file
from tests.fakes.families import FAMILIES, VOCAB_SIZE
from tests.fakes.folders import add_tokenizer, configure
from tests.fakes.hub_server import served_hub

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.slow]


@dataclass(frozen=True)
class Case:
    """`is_inspected`: what is wrong shows in headers and configs already."""

    break_it: Callable[[Path], object]
    message: str
    is_inspected: bool = True


def _lose_a_shard(folder: Path) -> None:
    shard = folder / "model-00001-of-00002.safetensors"
    (folder / "model.safetensors").rename(shard)
    names = list(load_file(shard))
    index = dict.fromkeys(names, shard.name) | {names[-1]: "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def _misshape(folder: Path) -> None:
    path = folder / "model.safetensors"
    wrong = {"model.layers.0.mlp.up_proj.weight": torch.ones(5, 8)}
    save_file({**load_file(path), **wrong}, path)


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


CASES = {
    "unknown architecture": Case(
        lambda folder: configure(folder, model_type="mamba"),
        "model type 'mamba' is not supported; supported: 'llama', ",
    ),
    "unknown quantization": Case(
        lambda folder: configure(folder, quantization_config={"quant_method": "awq"}),
        "quantization 'awq' is not supported; supported: 'fp8', 'mxfp4'",
    ),
    "missing shard": Case(
        _lose_a_shard, "the shard 'model-00002-of-00002.safetensors' is missing; fetch it again"
    ),
    "no weights": Case(
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        "has neither 'model.safetensors' nor 'model.safetensors.index.json'",
    ),
    "truncated weights": Case(_truncate, "model.safetensors is damaged: tensor '"),
    "wrong shape": Case(
        _misshape,
        "'model.layers.0.mlp.up_proj.weight' has shape [5, 8], the config asks for [96, 64]",
        is_inspected=False,
    ),
    "no tokenizer": Case(
        lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is not there; a folder"
    ),
    "tokens without embeddings": Case(
        lambda folder: add_tokenizer(folder, VOCAB_SIZE + 4),
        f"has {VOCAB_SIZE + 4} tokens and the model embeddings of {VOCAB_SIZE}: token {VOCAB_SIZE}",
        is_inspected=False,  # told among the rest of what is not supported
    ),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    family = FAMILIES["llama"]
    folder = family.save(tmp_path_factory.mktemp("saved"), family.model())
    add_tokenizer(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "model")


@pytest.mark.parametrize("name", CASES)
def test_an_engine_names_what_is_wrong(folder: Path, name: str) -> None:
    case = CASES[name]
    case.break_it(folder)
    with (
        pytest.raises(FurcateError) as raised,
        fc.Engine(str(folder), kv_bytes="1MiB", threads=1, kernels="reference") as engine,
    ):
        engine.get_server_info()
    assert case.message in str(raised.value)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.is_inspected])
def test_inspect_names_what_is_wrong(folder: Path, name: str) -> None:
    CASES[name].break_it(folder)
    result = CliRunner().invoke(app, ["models", "inspect", str(folder)])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("furcate: error: ")
    assert CASES[name].message in result.stderr


@pytest.mark.parametrize("name", ["missing shard", "wrong shape"])
def test_serve_names_what_is_wrong(folder: Path, tmp_path: Path, name: str) -> None:
    CASES[name].break_it(folder)
    result = run("serve", "--model", folder, "--address", f"ipc://{tmp_path}/s.sock")
    assert CASES[name].message in message_of(result)


def test_too_little_memory_is_told_before_anything_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "available_bytes", lambda: 1 << 20)
    with (
        pytest.raises(fc.CapacityError, match=r"--kv-bytes 512MiB: .* --kv-bytes 0MiB would fit"),
        fc.Engine(str(folder), kv_bytes="512MiB", threads=1) as engine,
    ):
        engine.get_server_info()


def test_a_model_of_the_hub_is_pulled_and_then_used_offline(folder: Path, tmp_path: Path) -> None:
    home = {"HF_HOME": str(tmp_path / "home"), "COLUMNS": "200"}
    with served_hub() as hub:
        hub.repositories["org/tiny"] = {file.name: file.read_bytes() for file in folder.iterdir()}
        pulled = run("models", "pull", "org/tiny", HF_ENDPOINT=hub.endpoint, **home)
    assert pulled.returncode == 0, pulled.stderr
    assert "furcate: fetching org/tiny, commit " in pulled.stderr
    assert "\r" not in pulled.stderr  # no bars where there is no terminal
    shown = run("models", "inspect", "org/tiny", HF_HUB_OFFLINE="1", **home)
    assert shown.returncode == 0, shown.stderr
    assert "llama (Llama 2, Llama 3)" in shown.stdout


def test_a_model_of_the_hub_is_not_fetched_where_that_is_forbidden(tmp_path: Path) -> None:
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "furcate", "models", "pull", "org/name"]
    result = subprocess.run(command, capture_output=True, text=True, env=offline, check=False)
    assert result.returncode == 1
    assert "'org/name' is not here as a whole, and HF_HUB_OFFLINE forbids" in result.stderr
    assert "Traceback" not in result.stderr
