"""Llama-family models as a program of native operations: the same forward as `llama.py`.

`llama.py` is the readable truth, this is what runs fast; a test holds the two together. Hidden
states are float32; products read rows in the form that their weight asks for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.errors import ModelFileError
from furcate.runtime.attention.native import NativeSpec

from .native import NativeModel, NativeShape
from .native_weights import Matmul, WeightPacker
from .rope import rope_frequencies

if TYPE_CHECKING:
    import numpy as np

    from furcate.kernels.forward.native import Buffer, ForwardBuilder
    from furcate.kernels.library import Pool
    from furcate.kernels.linear.weight import LinearWeight
    from furcate.kernels.structures import Embedding, KVType, RowType

    from .config import LlamaConfig
    from .weights import TensorSource

__all__ = ["load_native_llama", "why_not_native"]

LANES = 16


@dataclass(frozen=True, slots=True)
class _Layer:
    attention_norm: np.ndarray
    qkv: LinearWeight
    output: LinearWeight
    feed_forward_norm: np.ndarray
    gate_up: LinearWeight
    down: LinearWeight


@dataclass(frozen=True, slots=True)
class _Weights:
    table: Embedding
    layers: tuple[_Layer, ...]
    norm: np.ndarray
    head: LinearWeight


def why_not_native(config: LlamaConfig) -> str | None:
    """What keeps the native kernels from running a model of this shape; None: nothing does."""
    if config.head_dim % LANES or config.head_dim > 256:
        return f"heads of {config.head_dim} dimensions; they read multiples of 16 up to 256"
    if config.hidden_size % LANES:
        return f"a hidden size of {config.hidden_size}; they read multiples of 16"
    return None


def load_native_llama(
    config: LlamaConfig, source: TensorSource, pool: Pool, matmul: Matmul, kv_type: KVType
) -> NativeModel:
    """Reads, checks and packs the tensors of a model; ready for `allocate`."""
    reason = why_not_native(config)
    if reason is not None:
        raise ModelFileError(f"native kernels cannot run {reason}; use --kernels reference")
    weights = _read_weights(config, WeightPacker(source, pool, matmul))
    spec = NativeSpec(
        config.num_layers, config.num_heads, config.kv_heads, config.head_dim, kv_type
    )
    shape = NativeShape(config.vocab_size, config.max_context, spec)
    return NativeModel(shape, pool, lambda builder: _define(config, weights, builder))


def _read_weights(config: LlamaConfig, packer: WeightPacker) -> _Weights:
    head = "token_embd.weight" if config.tied_embeddings else "output.weight"
    return _Weights(
        table=packer.table("token_embd.weight", config.vocab_size, config.hidden_size),
        layers=tuple(
            _read_layer(config, packer, f"blk.{layer}.") for layer in range(config.num_layers)
        ),
        norm=packer.vector("output_norm.weight", config.hidden_size),
        head=packer.matrix({head: config.vocab_size}, config.hidden_size),
    )


def _read_layer(config: LlamaConfig, packer: WeightPacker, block: str) -> _Layer:
    hidden, query = config.hidden_size, config.num_heads * config.head_dim
    kv = config.kv_heads * config.head_dim
    projections = {"attn_q": query, "attn_k": kv, "attn_v": kv}
    return _Layer(
        attention_norm=packer.vector(f"{block}attn_norm.weight", hidden),
        qkv=packer.matrix({f"{block}{n}.weight": size for n, size in projections.items()}, hidden),
        output=packer.matrix({f"{block}attn_output.weight": hidden}, query),
        feed_forward_norm=packer.vector(f"{block}ffn_norm.weight", hidden),
        gate_up=packer.gated(
            f"{block}ffn_gate.weight", f"{block}ffn_up.weight", config.ffn_size, hidden
        ),
        down=packer.matrix({f"{block}ffn_down.weight": hidden}, config.ffn_size),
    )


def _define(config: LlamaConfig, weights: _Weights, builder: ForwardBuilder) -> None:
    query = config.num_heads * config.head_dim
    frequencies = rope_frequencies(config.rope_base, config.head_dim, config.rope_divisors)
    rope = builder.rope(frequencies.numpy())
    hidden = builder.buffer("f32", config.hidden_size)
    qkv = builder.buffer("f32", query + 2 * config.kv_heads * config.head_dim)
    q = builder.buffer("bf16", query)
    buffers: dict[tuple[str, RowType], Buffer] = {}

    def rows_for(weight: LinearWeight, use: str) -> Buffer:
        """The buffer that a product reads, one for each form and use."""
        key = (use, weight.row_type)
        if key not in buffers:
            buffers[key] = builder.buffer(weight.row_type, weight.in_features)
        return buffers[key]

    builder.embed(weights.table, hidden)
    for number, layer in enumerate(weights.layers):
        normed = rows_for(layer.qkv, "normed")
        builder.norm(hidden, layer.attention_norm, config.norm_eps, normed)
        builder.linear(normed, layer.qkv, qkv)
        builder.rotate(number, qkv, q, rope, config.head_dim, config.rope_interleaved)
        attended = rows_for(layer.output, "attended")
        builder.attend(number, q, attended, 1.0 / math.sqrt(config.head_dim))
        builder.linear(attended, layer.output, hidden, "add")
        normed = rows_for(layer.gate_up, "normed")
        builder.norm(hidden, layer.feed_forward_norm, config.norm_eps, normed)
        gated = rows_for(layer.down, "gated")
        builder.linear(normed, layer.gate_up, gated, "gated")
        builder.linear(gated, layer.down, hidden, "add")
    builder.head(hidden, weights.norm, config.norm_eps, weights.head)
