"""Folders as transformers writes them: what loads, and a name for everything that is missing."""

from __future__ import annotations

import json
import logging
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.native_models import Row, logits_of

import furcate as fc
from furcate.errors import ModelFileError
from furcate.runtime.config import resolve
from furcate.runtime.model.load import load_model
from furcate.runtime.model.safetensors import SafetensorsFolder
from furcate.runtime.server.text import load_text

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("transformers")

from safetensors.torch import load_file, save, save_file
from tests.fakes.families import FAMILIES
from tests.fakes.folders import add_tokenizer

IDS = np.arange(5, 45, dtype=np.int32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    family = FAMILIES["llama"]
    return family.save(tmp_path_factory.mktemp("llama"), family.model())


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(saved, tmp_path / "model")


def _logits(path: Path) -> np.ndarray:
    model = load_model(path, "float32")
    model.allocate(8, 16)
    return logits_of(model, [Row(IDS, 0, range(8))])[0]


def _rewrite(folder: Path, changes: dict[str, torch.Tensor | None]) -> None:
    """Replaces tensors, or leaves them out."""
    path = folder / "model.safetensors"
    tensors = {**load_file(path), **changes}
    save_file({name: t.clone() for name, t in tensors.items() if t is not None}, path)


def _configure(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_shards_are_one_checkpoint(saved: Path, tmp_path: Path) -> None:
    family = FAMILIES["llama"]
    sharded = family.save(tmp_path, family.model(), shard_size="40KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    np.testing.assert_array_equal(_logits(sharded), _logits(saved))


def test_tensors_are_views_of_their_file(saved: Path) -> None:
    tensors = SafetensorsFolder(saved)
    stored = load_file(saved / "model.safetensors")
    assert dict(tensors).keys() == stored.keys()
    for name, tensor in stored.items():
        assert torch.equal(tensors[name], tensor)


def test_a_text_model_is_found_within_a_larger_one(folder: Path) -> None:
    expected = _logits(folder)
    path = folder / "model.safetensors"
    moved = {
        name.replace("model.", "language_model.model.", 1): tensor.clone()
        for name, tensor in load_file(path).items()
    }
    save_file(moved, path)
    np.testing.assert_array_equal(_logits(folder), expected)


def test_an_older_spelling_of_rope_is_read(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    theta = settings["rope_parameters"]["rope_theta"]
    expected = _logits(folder)
    _configure(folder, rope_parameters=None, rope_theta=theta)
    np.testing.assert_array_equal(_logits(folder), expected)
    _configure(folder, rope_theta=theta * 2)
    assert not np.array_equal(_logits(folder), expected)


def test_a_folder_without_weights_or_config_is_told(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelFileError, match=r"neither 'model.safetensors' nor .*index.json'"):
        load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelFileError, match=r"config.json cannot be read"):
        load_model(folder)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    family = FAMILIES["llama"]
    sharded = family.save(tmp_path, family.model(), shard_size="40KB")
    lost = sorted(sharded.glob("*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(ModelFileError, match=f"the shard '{lost.name}' is missing"):
        load_model(sharded)


def test_an_index_that_leaves_its_folder_is_refused(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(ModelFileError, match=r"'../secret.safetensors' is not a name of a file"):
        load_model(folder)
    index.write_text("[]")
    with pytest.raises(ModelFileError, match=r"index.json must hold a table, got \[\]"):
        load_model(folder)
    index.write_text("{}")
    with pytest.raises(ModelFileError, match="has no table 'weight_map'"):
        load_model(folder)


@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "lm_head.weight"])
def test_a_missing_tensor_is_named_as_it_is_stored(folder: Path, name: str) -> None:
    _rewrite(folder, {name: None})
    with pytest.raises(ModelFileError, match=f"there is no tensor '{name}'"):
        load_model(folder)


def test_a_misshapen_tensor_is_named_with_both_shapes(folder: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    _rewrite(folder, {name: torch.ones(5, 8)})
    message = rf"'{name}' has shape \[5, 8\], the config asks for \[96, 64\]"
    with pytest.raises(ModelFileError, match=message):
        load_model(folder)


def test_a_type_that_is_not_read_is_named(folder: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    _rewrite(folder, {name: torch.ones(96, 64).to(torch.float8_e5m2)})
    with pytest.raises(ModelFileError, match=f"'{name}' is stored as 'F8_E5M2'"):
        load_model(folder)


@pytest.mark.parametrize("length", [0, 4, 12, 60, 5000])
def test_a_truncated_file_is_damaged(folder: Path, length: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelFileError, match=r"is damaged|cannot be read"):
        load_model(folder)


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1 << 40]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 8]}},
        {"a": {"dtype": 7, "shape": [2], "data_offsets": [0, 8]}},
        {"a": {"shape": [2]}},
        {"a": None},
        [],
    ],
)
def test_a_header_that_makes_no_sense_is_damage(folder: Path, header: object) -> None:
    raw = json.dumps(header).encode()
    content = len(raw).to_bytes(8, "little") + raw + bytes(8)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"model\.safetensors is damaged"):
        load_model(folder)


@settings(max_examples=200, deadline=None)
@given(changes=st.dictionaries(st.integers(0, 700), st.integers(0, 255), min_size=1, max_size=6))
def test_a_file_with_other_bytes_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[int, int]
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(save({"a": torch.ones(2, 3), "b": torch.zeros(4, dtype=torch.int64)}))
    for place, byte in changes.items():
        content[place % len(content)] = byte
    (folder / "model.safetensors").write_bytes(content)
    with suppress(ModelFileError):
        for tensor in SafetensorsFolder(folder).values():
            tensor.clone()


def test_an_unknown_family_is_named_beside_those_that_are_known(folder: Path) -> None:
    _configure(folder, model_type="mamba")
    with pytest.raises(ModelFileError, match=r"model type 'mamba' is not supported; .* 'llama'"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization 'gptq' is not"),
        ({"hidden_act": "relu"}, "hidden_act 'relu' is not supported"),
        ({"num_hidden_layers": 1 << 40}, "num_hidden_layers must be from 1 to 1024"),
        ({"intermediate_size": None}, "'intermediate_size' must be an integer, got None"),
    ],
)
def test_settings_that_cannot_be_run_are_named(
    folder: Path, changes: dict[str, object], message: str
) -> None:
    _configure(folder, **changes)
    with pytest.raises(ModelFileError, match=message):
        load_model(folder)


def test_every_end_that_a_folder_names_is_one(folder: Path) -> None:
    add_tokenizer(folder)
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [2, 3]
    codec = load_text(resolve({"model": str(folder)}, {}).model).codec
    assert codec.eos_ids == {2, 3}
    assert codec.encode("abc") == [10, 11, 12]


@fc.function
def _one_text(s: fc.ProgramState) -> None:
    s += "abc def" + fc.gen("text", max_tokens=8, temperature=0)


@fc.function
def _whole_text(s: fc.ProgramState) -> None:
    s += "abc def" + fc.gen("text", max_tokens=8, temperature=0, ignore_eos=True)


@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["reference", "auto"])
def test_each_end_of_the_list_ends_a_text(folder: Path, kernels: str) -> None:
    add_tokenizer(folder)
    options = {"kv_bytes": "8MiB", "kernels": kernels, "threads": 1}
    with fc.Engine(str(folder), **options) as engine:
        text = _whole_text.run(backend=engine)["text"]
        codec = load_text(resolve({"model": str(folder)}, {}).model).codec
    first = next(
        i for i, token in enumerate(codec.table) if token and text.encode().startswith(token)
    )
    for ends in ([2, first], [first, 3]):
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
        with fc.Engine(str(folder), **options) as engine:
            state = _one_text.run(backend=engine)
            assert state["text"] == ""
            assert state.get_meta_info("text")["finish_reason"] == {"type": "eos"}


@fc.function
def _two_continuations(s: fc.ProgramState) -> None:
    s += "abc def"
    branches = s.fork(2)
    for branch in branches:
        branch += " ghi" + fc.gen("text", max_tokens=5, temperature=0, ignore_eos=True)
    s["texts"] = [branch["text"] for branch in branches]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kernels"),
    [("llama", "reference"), ("llama", "auto"), ("gemma2", "auto"), ("deepseek v3", "auto")],
)
def test_programs_run_on_a_folder(
    tmp_path: Path, name: str, kernels: str, caplog: pytest.LogCaptureFixture
) -> None:
    family = FAMILIES[name]
    folder = family.save(tmp_path, family.model())
    add_tokenizer(folder)
    with (
        caplog.at_level(logging.WARNING),
        fc.Engine(str(folder), kv_bytes="8MiB", kernels=kernels, threads=1) as engine,
    ):
        first, second = _two_continuations.run(backend=engine)["texts"]
    assert first == second != ""
    told = {"gemma2": "attention windows, capped scores", "deepseek v3": "latent attention"}
    if name in told:
        assert f"native ones cannot run {told[name]}" in caplog.text
    else:
        assert "native ones cannot run" not in caplog.text
