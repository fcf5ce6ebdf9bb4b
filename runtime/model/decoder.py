"""A decoder over paged KV: its weights, and the forward that implements `LanguageModel`.

Every family is this one model with another `DecoderConfig`. Sees tokens, positions and pages. Does
not know sampling, sequences or who shares a batch, and a row's logits depend on none of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from furcate.kernels.embedding import embed
from furcate.kernels.linear import pack
from furcate.kernels.rope import rotation_table
from furcate.runtime.attention import AttentionSpec, PagedAttention

from .attention import Rotation, load_attention
from .config import AttentionConfig, LatentConfig
from .feed_forward import load_feed_forward
from .layers import Projection, Residual
from .loader import WeightReader
from .mla import load_latent_attention
from .moe import load_mixture
from .rope import rope_frequencies

if TYPE_CHECKING:
    from torch import Tensor

    from .attention import Attention
    from .base import TokenBatch
    from .config import DecoderConfig, RopeConfig
    from .feed_forward import FeedForward
    from .layers import Norm
    from .mla import LatentAttention
    from .moe import Mixture
    from .weights import TensorSource

__all__ = ["DecoderModel", "DecoderWeights", "Layer", "load_decoder", "load_weights"]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    attention: Attention | LatentAttention
    feed_forward: FeedForward | Mixture


@dataclass(frozen=True, slots=True, eq=False)
class DecoderWeights:
    """Every weight of a model, packed for the kernels."""

    embedding: Tensor  # in the model's dtype [vocab_size, hidden_size]
    layers: tuple[Layer, ...]
    norm: Norm
    head: Projection


def load_decoder(config: DecoderConfig, source: TensorSource, dtype: torch.dtype) -> DecoderModel:
    return DecoderModel(config, load_weights(config, source, dtype))


def load_weights(config: DecoderConfig, source: TensorSource, dtype: torch.dtype) -> DecoderWeights:
    """Reads, checks and packs the tensors of a model one after the other."""
    reader = WeightReader(source, dtype, config.norm_eps)
    embedding_shape = (config.vocab_size, config.hidden_size)
    embedding = reader.matrix("token_embd.weight", embedding_shape)
    head = embedding if config.tied_embeddings else reader.matrix("output.weight", embedding_shape)
    return DecoderWeights(
        embedding=embedding,
        layers=tuple(_load_layer(config, reader, number) for number in range(config.num_layers)),
        norm=reader.norm("output_norm", config.hidden_size),
        head=Projection(pack(head)),
    )


def _load_layer(config: DecoderConfig, reader: WeightReader, number: int) -> Layer:
    block, hidden_size = f"blk.{number}.", config.hidden_size
    around_attention = _residual(config, reader, f"{block}attn_norm", f"{block}post_attention_norm")
    around_rest = _residual(config, reader, f"{block}ffn_norm", f"{block}post_ffw_norm")
    attention = (
        load_attention(config.attention, reader, block, around_attention, hidden_size)
        if isinstance(config.attention, AttentionConfig)
        else load_latent_attention(config.attention, reader, block, around_attention, hidden_size)
    )
    experts = config.experts if config.layers[number].has_experts else None
    feed_forward = (
        load_feed_forward(config.feed_forward, reader, block, around_rest, hidden_size)
        if experts is None
        else load_mixture(experts, reader, block, around_rest, hidden_size)
    )
    return Layer(attention, feed_forward)


def _residual(config: DecoderConfig, reader: WeightReader, before: str, after: str) -> Residual:
    size = config.hidden_size
    return Residual(
        before=None if config.norms == "after" else reader.norm(before, size),
        after=None if config.norms == "before" else reader.norm(after, size),
        scale=config.residual_scale,
    )


def attention_spec(config: DecoderConfig, dtype: torch.dtype) -> AttentionSpec:
    """What the model asks of its attention backend."""
    attention = config.attention
    return AttentionSpec(
        num_layers=config.num_layers,
        num_heads=attention.num_heads,
        kv_heads=attention.kv_heads,
        head_dim=attention.head_dim,
        dtype=dtype,
        scale=attention.scale,
        softcap=attention.softcap if isinstance(attention, AttentionConfig) else None,
        windows=tuple(layer.window for layer in config.layers),
        values_are_keys=isinstance(attention, LatentConfig) and attention.form == "absorbed",
    )


class DecoderModel:
    """Implements `LanguageModel`: float32 hidden states, products and KV in the weights' dtype."""

    def __init__(self, config: DecoderConfig, weights: DecoderWeights) -> None:
        self.config = config
        self._weights = weights
        ropes = dict.fromkeys(layer.rope for layer in config.layers if layer.rope is not None)
        self._frequencies = {rope: rope_frequencies(rope) for rope in ropes}
        self._spec = attention_spec(config, weights.embedding.dtype)
        self._attention = PagedAttention(self._spec)

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def max_context(self) -> int:
        return self.config.max_context

    @property
    def dtype(self) -> torch.dtype:
        return self._spec.dtype

    @property
    def kv_bytes_per_token(self) -> int:
        return self._spec.kv_bytes_per_token

    def allocate(self, num_pages: int, page_size: int) -> None:
        self._attention.allocate(num_pages, page_size)

    @torch.inference_mode()
    def read_page(self, page: int) -> bytes:
        return self._attention.read_page(page)

    def forward(self, batch: TokenBatch) -> Tensor:
        copies = tuple((copy.source, copy.target, copy.num_tokens) for copy in batch.copies)
        plan = self._attention.plan(batch, copies)
        rotations = self._rotations(torch.tensor(batch.positions))
        hidden = self._embedded(torch.tensor(batch.token_ids))
        for number, layer in enumerate(self._weights.layers):
            rope = self.config.layers[number].rope
            attend = partial(self._attention.attend, number, plan)
            layer.attention.add_to(hidden, rotations[rope] if rope else None, attend)
            layer.feed_forward.add_to(hidden)
        return self._logits(hidden, torch.tensor(batch.logit_indices))

    def _embedded(self, token_ids: Tensor) -> Tensor:
        hidden = embed(token_ids, self._weights.embedding).float()  # [T, hidden_size]
        scale = self.config.embedding_scale
        return hidden if scale == 1.0 else hidden.mul_(scale)

    def _rotations(self, positions: Tensor) -> dict[RopeConfig, Rotation]:
        rotations = {}
        for rope, frequencies in self._frequencies.items():
            table = rotation_table(positions, frequencies)
            rotations[rope] = Rotation(table.mul_(rope.scale), rope.interleaved)
        return rotations

    def _logits(self, hidden: Tensor, rows: Tensor) -> Tensor:
        weights, config = self._weights, self.config
        normed = weights.norm(hidden.index_select(0, rows), weights.head.dtype)
        logits = weights.head(normed).float()  # [L, vocab_size]
        if config.logit_scale != 1.0:
            logits.mul_(config.logit_scale)
        if config.logit_softcap is not None:
            logits.div_(config.logit_softcap).tanh_().mul_(config.logit_softcap)
        return logits
