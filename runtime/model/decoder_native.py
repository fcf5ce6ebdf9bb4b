"""Decoders as a program of native operations: the same forward as `decoder.py`.

`decoder.py` is the readable truth, this is what runs fast; a test holds the two together. Hidden
states are float32; products read rows in the form that their weight asks for. What the operations
do not cover is told by `why_not_native`, once and by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from furcate.errors import ModelFileError
from furcate.kernels.forward.native import HeadNorms
from furcate.runtime.attention.native import NativeSpec

from .config import AttentionConfig
from .native import NativeModel, NativeShape
from .native_weights import Matmul, WeightPacker
from .rope import rope_frequencies

if TYPE_CHECKING:
    from furcate.kernels.forward.native import Buffer, ForwardBuilder
    from furcate.kernels.library import Pool
    from furcate.kernels.linear.weight import LinearWeight
    from furcate.kernels.structures import Embedding, Epilogue, KVType, RowType

    from .config import DecoderConfig, RopeConfig
    from .weights import TensorSource

__all__ = ["load_native_decoder", "why_not_native"]

LANES = 16


@dataclass(frozen=True, slots=True)
class _Projection:
    """A matrix of one or more tensors, and the bias of all its columns if they have one."""

    weight: LinearWeight
    bias: np.ndarray | None


@dataclass(frozen=True, slots=True)
class _Layer:
    attention_norm: np.ndarray
    qkv: _Projection
    head_norms: HeadNorms | None
    output: _Projection
    feed_forward_norm: np.ndarray
    gate_up: _Projection
    down: _Projection


@dataclass(frozen=True, slots=True)
class _Weights:
    table: Embedding
    layers: tuple[_Layer, ...]
    norm: np.ndarray
    head: LinearWeight


def why_not_native(config: DecoderConfig) -> str | None:
    """What keeps the native kernels from running a model of this shape; None: nothing does."""
    attention, hidden_size = config.attention, config.hidden_size
    if not isinstance(attention, AttentionConfig):
        return "latent attention"
    if attention.head_dim % LANES or attention.head_dim > 256:
        return f"heads of {attention.head_dim} dimensions; they read multiples of 16 up to 256"
    if hidden_size % LANES:
        return f"a hidden size of {hidden_size}; they read multiples of 16"
    missing = [name for name, is_used in _extras(config, attention).items() if is_used]
    return f"{', '.join(missing)}" if missing else None


def _extras(config: DecoderConfig, attention: AttentionConfig) -> dict[str, bool]:
    """What the operations have no form of, and whether the model uses it."""
    ropes = [layer.rope for layer in config.layers if layer.rope is not None]
    feed_forward = config.feed_forward
    return {
        "experts": any(layer.has_experts for layer in config.layers),
        "attention windows": any(layer.window is not None for layer in config.layers),
        "norms across heads": attention.qk_norm == "token",
        "attention sinks": attention.sinks,
        "capped scores": attention.softcap is not None,
        "norms after sublayers": config.norms != "before",
        f"{feed_forward.activation} gates": feed_forward.activation != "silu",
        "heads that are rotated in part": any(rope.size < attention.head_dim for rope in ropes),
        "scaled residuals": config.residual_scale != 1.0,
        "scaled or capped logits": config.logit_scale != 1.0 or config.logit_softcap is not None,
    }


def load_native_decoder(
    config: DecoderConfig, source: TensorSource, pool: Pool, matmul: Matmul, kv_type: KVType
) -> NativeModel:
    """Reads, checks and packs the tensors of a model; ready for `allocate`."""
    reason = why_not_native(config)
    if reason is not None:
        raise ModelFileError(f"native kernels cannot run {reason}; use --kernels reference")
    attention = config.attention
    weights = _read_weights(config, WeightPacker(source, pool, matmul))
    spec = NativeSpec(
        config.num_layers, attention.num_heads, attention.kv_heads, attention.head_dim, kv_type
    )
    shape = NativeShape(config.vocab_size, config.max_context, spec)
    return NativeModel(shape, pool, lambda builder: _define(config, weights, builder))


def _read_weights(config: DecoderConfig, packer: WeightPacker) -> _Weights:
    head = "token_embd.weight" if config.tied_embeddings else "output.weight"
    return _Weights(
        table=packer.table(
            "token_embd.weight", config.vocab_size, config.hidden_size, config.embedding_scale
        ),
        layers=tuple(
            _read_layer(config, packer, f"blk.{layer}.") for layer in range(config.num_layers)
        ),
        norm=packer.vector("output_norm.weight", config.hidden_size),
        head=packer.matrix({head: config.vocab_size}, config.hidden_size),
    )


def _read_layer(config: DecoderConfig, packer: WeightPacker, block: str) -> _Layer:
    attention, hidden, feed_forward = config.attention, config.hidden_size, config.feed_forward
    assert isinstance(attention, AttentionConfig), "why_not_native has refused it"
    query, kv = (n * attention.head_dim for n in (attention.num_heads, attention.kv_heads))
    size = feed_forward.size

    def projection(
        parts: dict[str, int], width: int, bias: bool, gated: bool = False
    ) -> _Projection:
        weights = {f"{block}{name}.weight": rows for name, rows in parts.items()}
        biases = {f"{block}{name}.bias": rows for name, rows in parts.items()}
        weight = packer.matrix(weights, width, gated=gated)
        return _Projection(weight, packer.biases(biases) if bias else None)

    projections = {"attn_q": query, "attn_k": kv, "attn_v": kv}
    return _Layer(
        attention_norm=packer.vector(f"{block}attn_norm.weight", hidden),
        qkv=projection(projections, hidden, attention.qkv_bias),
        head_norms=_read_head_norms(attention, config.norm_eps, packer, block),
        output=projection({"attn_output": hidden}, query, attention.output_bias),
        feed_forward_norm=packer.vector(f"{block}ffn_norm.weight", hidden),
        gate_up=projection(
            {"ffn_gate": size, "ffn_up": size}, hidden, feed_forward.bias, gated=True
        ),
        down=projection({"ffn_down": hidden}, size, feed_forward.bias),
    )


def _read_head_norms(
    attention: AttentionConfig, eps: float, packer: WeightPacker, block: str
) -> HeadNorms | None:
    if attention.qk_norm == "none":
        return None
    query, key = (
        packer.vector(f"{block}{name}.weight", attention.head_dim)
        for name in ("attn_q_norm", "attn_k_norm")
    )
    return HeadNorms(query, key, eps)


def _define(config: DecoderConfig, weights: _Weights, builder: ForwardBuilder) -> None:
    attention = config.attention
    head_dim, query = attention.head_dim, attention.num_heads * attention.head_dim
    ropes = dict.fromkeys(layer.rope for layer in config.layers)
    angles = {rope: builder.rope(_frequencies(rope, head_dim)) for rope in ropes}
    hidden = builder.buffer("f32", config.hidden_size)
    qkv = builder.buffer("f32", query + 2 * attention.kv_heads * head_dim)
    q = builder.buffer("bf16", query)
    buffers: dict[tuple[str, RowType], Buffer] = {}

    def rows_for(projection: _Projection, use: str) -> Buffer:
        """The buffer that a product reads, one for each form and use."""
        weight = projection.weight
        key = (use, weight.row_type)
        if key not in buffers:
            buffers[key] = builder.buffer(weight.row_type, weight.in_features)
        return buffers[key]

    def project(
        x: Buffer, projection: _Projection, out: Buffer, epilogue: Epilogue = "store"
    ) -> None:
        builder.linear(x, projection.weight, out, epilogue, bias=projection.bias)

    builder.embed(weights.table, hidden)
    for number, layer in enumerate(weights.layers):
        normed = rows_for(layer.qkv, "normed")
        builder.norm(hidden, layer.attention_norm, config.norm_eps, normed)
        project(normed, layer.qkv, qkv)
        rope = config.layers[number].rope
        is_interleaved = rope is not None and rope.interleaved
        builder.rotate(number, qkv, q, angles[rope], head_dim, is_interleaved, layer.head_norms)
        attended = rows_for(layer.output, "attended")
        # Rotations that are scaled scale the scores, by their square.
        scale = attention.scale * (rope.scale**2 if rope else 1.0)
        builder.attend(number, q, attended, scale)
        project(attended, layer.output, hidden, "add")
        normed = rows_for(layer.gate_up, "normed")
        builder.norm(hidden, layer.feed_forward_norm, config.norm_eps, normed)
        gated = rows_for(layer.down, "gated")
        project(normed, layer.gate_up, gated, "gated")
        project(gated, layer.down, hidden, "add")
    builder.head(hidden, weights.norm, config.norm_eps, weights.head)


def _frequencies(rope: RopeConfig | None, head_dim: int) -> np.ndarray:
    """Of a layer that knows no positions: zeros, which turn nothing."""
    return np.zeros(head_dim // 2, np.float32) if rope is None else rope_frequencies(rope).numpy()
