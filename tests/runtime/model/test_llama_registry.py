"""From a file to a model: architectures, dtypes, and names for what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from furcate.errors import ModelFileError, UsageError
from furcate.runtime.model.checkpoint import read_config
from furcate.runtime.model.load import load_model, resolve_dtype

if TYPE_CHECKING:
    from pathlib import Path

gguf = pytest.importorskip("gguf")

TENSORS: dict[str, tuple[int, ...]] = {
    "token_embd.weight": (13, 8),
    "output_norm.weight": (8,),
    "blk.0.attn_norm.weight": (8,),
    "blk.0.attn_q.weight": (8, 8),
    "blk.0.attn_k.weight": (4, 8),
    "blk.0.attn_v.weight": (4, 8),
    "blk.0.attn_output.weight": (8, 8),
    "blk.0.ffn_norm.weight": (8,),
    "blk.0.ffn_gate.weight": (12, 8),
    "blk.0.ffn_up.weight": (12, 8),
    "blk.0.ffn_down.weight": (8, 12),
}


def _write(
    path: Path,
    architecture: str = "llama",
    shapes: dict[str, tuple[int, ...]] = TENSORS,
    scaling: str | None = None,
    experts: int = 0,
) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(12)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    if experts:
        writer.add_expert_count(experts)
    if scaling is not None:
        writer.add_string(f"{architecture}.rope.scaling.type", scaling)
        writer.add_float32(f"{architecture}.rope.scaling.factor", 2.0)
    generator = np.random.default_rng(0)
    for name, shape in shapes.items():
        writer.add_tensor(name, generator.standard_normal(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("dtype", "expected"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_a_file_becomes_a_model_of_the_asked_dtype(
    tmp_path: Path, dtype: str, expected: torch.dtype
) -> None:
    model = load_model(_write(tmp_path / "m.gguf"), dtype)
    assert (model.vocab_size, model.max_context) == (13, 64)
    assert model.kv_bytes_per_token == 2 * 1 * 4 * expected.itemsize


def test_an_unknown_architecture_is_named_beside_the_supported_ones(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.gguf", architecture="mamba")
    with pytest.raises(ModelFileError, match="'mamba' is not supported; supported: 'llama'"):
        load_model(path)


@pytest.mark.parametrize("scaling", ["none", "linear"])
def test_plain_and_linear_rope_scaling_load(tmp_path: Path, scaling: str) -> None:
    load_model(_write(tmp_path / "m.gguf", scaling=scaling))


def test_an_unsupported_rope_scaling_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="'yarn' is not supported"):
        load_model(_write(tmp_path / "m.gguf", scaling="yarn"))


@pytest.mark.parametrize("name", ["blk.0.ffn_gate.weight", "blk.0.attn_q.weight"])
def test_a_missing_or_misshapen_tensor_is_named(tmp_path: Path, name: str) -> None:
    without = {key: shape for key, shape in TENSORS.items() if key != name}
    with pytest.raises(ModelFileError, match=f"there is no tensor '{name}'"):
        load_model(_write(tmp_path / "without.gguf", shapes=without))
    with pytest.raises(ModelFileError, match=rf"'{name}' has shape \[5, 8\]"):
        load_model(_write(tmp_path / "other.gguf", shapes=TENSORS | {name: (5, 8)}))


def test_an_unknown_dtype_is_refused_and_auto_is_one_of_the_two() -> None:
    assert resolve_dtype("auto") in (torch.float32, torch.bfloat16)
    with pytest.raises(UsageError, match="got 'float16'"):
        resolve_dtype("float16")  # type: ignore[arg-type]


BIASES = {"attn_q": 8, "attn_k": 4, "attn_v": 4, "attn_output": 8}
MORE_BIASES = {"ffn_gate": 12, "ffn_up": 12, "ffn_down": 8}


def test_biases_that_are_stored_are_read(tmp_path: Path) -> None:
    biases = {f"blk.0.{name}.bias": (size,) for name, size in (BIASES | MORE_BIASES).items()}
    path = _write(tmp_path / "m.gguf", shapes=TENSORS | biases)
    config = read_config(path)
    assert config.attention.qkv_bias
    assert config.attention.output_bias
    load_model(path, "float32")
    del biases["blk.0.attn_v.bias"]
    with pytest.raises(ModelFileError, match=r"blk\.0\.attn_v\.bias"):
        load_model(_write(tmp_path / "n.gguf", shapes=TENSORS | biases), "float32")


def test_experts_of_a_gguf_file_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"llama\.expert_count is 4; experts are not read"):
        load_model(_write(tmp_path / "m.gguf", experts=4))
