"""Tiny llama checkpoints with random weights of any stored type, as GGUF files.

Types that the gguf package can quantise hold quantised normal numbers; the others hold random codes
with scales that give weights of the same spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import gguf
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "LlamaShape",
    "StoredTensor",
    "expanded",
    "random_extras",
    "random_llama",
    "random_tensor",
    "write_llama",
]

SPREAD = 0.06  # standard deviation of a matrix's weights: logits differ, nothing saturates

# Of the types without a quantiser: where their float16 scales stand, and the factor of the second,
# which centres the weights.
SCALE_FIELDS: dict[str, tuple[tuple[int, float], ...]] = {
    "Q2_K": ((80, 1.0), (82, 1.5)),
    "Q3_K": ((108, 1.0),),
    "Q4_K": ((0, 1.0), (2, 7.5)),
    "Q5_K": ((0, 1.0), (2, 15.5)),
    "Q6_K": ((208, 1.0),),
}


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """The least numbers that rows of super-blocks allow."""

    vocab_size: int = 67
    hidden_size: int = 256
    ffn_size: int = 512
    num_layers: int = 2
    num_heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    max_context: int = 256
    rope_base: float = 10_000.0
    rope_divisors: tuple[float, ...] = ()

    @property
    def query_size(self) -> int:
        return self.head_dim * self.num_heads

    @property
    def kv_size(self) -> int:
        return self.head_dim * self.kv_heads


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    kind: str
    data: np.ndarray  # as the gguf package takes it: uint8 [.., bytes of a row], or floats

    @property
    def values(self) -> np.ndarray:
        return gguf.dequantize(self.data, gguf.GGMLQuantizationType[self.kind])


def random_tensor(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> StoredTensor:
    """Weights around zero with a standard deviation of about SPREAD."""
    stored = gguf.GGMLQuantizationType[kind]
    if kind not in SCALE_FIELDS:
        weights = rng.normal(0, SPREAD, shape).astype(np.float32)
        return StoredTensor(kind, gguf.quantize(weights, stored))
    values, num_bytes = gguf.GGML_QUANT_SIZES[stored]
    blocks = rng.integers(0, 256, (*shape[:-1], shape[-1] // values, num_bytes), np.uint8)
    factors = rng.uniform(0.5, 1.5, (*blocks.shape[:-1], 1))
    _set_scales(kind, blocks, factors)
    row_bytes = (*shape[:-1], shape[-1] // values * num_bytes)
    spread = gguf.dequantize(blocks.reshape(row_bytes), stored).std()
    _set_scales(kind, blocks, factors * SPREAD / spread)
    return StoredTensor(kind, blocks.reshape(row_bytes))


def _set_scales(kind: str, blocks: np.ndarray, scales: np.ndarray) -> None:
    for at, factor in SCALE_FIELDS[kind]:
        blocks[..., at : at + 2] = (scales * factor).astype("<f2").view(np.uint8)


def random_llama(
    kind: str,
    others: Mapping[str, str] | None = None,
    shape: LlamaShape | None = None,
    tied: bool = True,
    seed: int = 0,
) -> dict[str, StoredTensor]:
    """The tensors of a model. Matrices are stored as `kind`, except those with a name that holds a
    key of `others`; norms as F32."""
    shape = shape or LlamaShape()
    rng = np.random.default_rng(seed)
    tensors: dict[str, StoredTensor] = {}
    for name, dims in _matrices(shape, tied).items():
        chosen = [other for part, other in (others or {}).items() if part in name]
        tensors[name] = random_tensor(chosen[0] if chosen else kind, dims, rng)
    norms = [f"blk.{n}.{name}_norm" for n in range(shape.num_layers) for name in ("attn", "ffn")]
    for name in ("output_norm", *norms):
        weights = rng.normal(1, 0.1, shape.hidden_size).astype(np.float32)
        tensors[f"{name}.weight"] = StoredTensor("F32", weights)
    if shape.rope_divisors:
        divisors = np.array(shape.rope_divisors, np.float32)
        tensors["rope_freqs.weight"] = StoredTensor("F32", divisors)
    return tensors


def random_extras(shape: LlamaShape, seed: int = 1) -> dict[str, StoredTensor]:
    """What other families add to each layer: biases of all products, norms of heads."""
    rng = np.random.default_rng(seed)
    biases = {"attn_q": shape.query_size, "attn_k": shape.kv_size, "attn_v": shape.kv_size}
    biases |= {"attn_output": shape.hidden_size, "ffn_down": shape.hidden_size}
    biases |= {"ffn_gate": shape.ffn_size, "ffn_up": shape.ffn_size}
    sizes = {f"{name}.bias": (0.0, size) for name, size in biases.items()}
    sizes |= {f"attn_{name}_norm.weight": (1.0, shape.head_dim) for name in ("q", "k")}
    return {
        f"blk.{number}.{name}": StoredTensor("F32", rng.normal(mean, 0.2, n).astype(np.float32))
        for number in range(shape.num_layers)
        for name, (mean, n) in sizes.items()
    }


def _matrices(shape: LlamaShape, tied: bool) -> dict[str, tuple[int, int]]:
    hidden = shape.hidden_size
    layer = {
        "attn_q": (shape.query_size, hidden),
        "attn_k": (shape.kv_size, hidden),
        "attn_v": (shape.kv_size, hidden),
        "attn_output": (hidden, shape.query_size),
        "ffn_gate": (shape.ffn_size, hidden),
        "ffn_up": (shape.ffn_size, hidden),
        "ffn_down": (hidden, shape.ffn_size),
    }
    matrices = {"token_embd.weight": (shape.vocab_size, hidden)}
    if not tied:
        matrices["output.weight"] = (shape.vocab_size, hidden)
    for number in range(shape.num_layers):
        matrices |= {f"blk.{number}.{name}.weight": dims for name, dims in layer.items()}
    return matrices


def expanded(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The same weights in float32, as the format's own package expands them."""
    return {name: StoredTensor("F32", tensor.values) for name, tensor in tensors.items()}


def write_llama(
    path: Path, tensors: Mapping[str, StoredTensor], shape: LlamaShape | None = None
) -> Path:
    """A file without a tokenizer."""
    shape = shape or LlamaShape()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(shape.num_layers)
    writer.add_context_length(shape.max_context)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_feed_forward_length(shape.ffn_size)
    writer.add_head_count(shape.num_heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(1e-5)
    for name, tensor in tensors.items():
        kind = gguf.GGMLQuantizationType[tensor.kind]
        writer.add_tensor(name, tensor.data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
