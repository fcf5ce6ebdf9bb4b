"""Llama-family models over paged KV: weights, and the forward that implements `LanguageModel`.

Sees tokens, positions and pages. Does not know sampling, sequences or who shares a batch, and a
row's logits depend on none of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from furcate.kernels.embedding import embed
from furcate.kernels.linear import PackedWeight, linear, pack
from furcate.kernels.rms_norm import rms_norm
from furcate.kernels.rope import rotation_table
from furcate.runtime.attention import AttentionSpec, PagedAttention

from .layers import AttentionWeights, FeedForwardWeights
from .rope import rope_frequencies

if TYPE_CHECKING:
    from torch import Tensor

    from .base import TokenBatch
    from .config import LlamaConfig
    from .weights import TensorSource

__all__ = ["LlamaModel", "LlamaWeights", "load_llama_weights"]


@dataclass(frozen=True, slots=True)
class LlamaWeights:
    """Every weight of a model, packed for the kernels."""

    dtype: torch.dtype
    embedding: Tensor  # [vocab_size, hidden_size]
    attention: tuple[AttentionWeights, ...]
    feed_forward: tuple[FeedForwardWeights, ...]
    norm: Tensor
    head: PackedWeight


def load_llama_weights(
    config: LlamaConfig, source: TensorSource, dtype: torch.dtype
) -> LlamaWeights:
    """Reads, checks and packs the tensors of a model one after the other."""
    embedding_shape = (config.vocab_size, config.hidden_size)
    embedding = source.read("token_embd.weight", embedding_shape).to(dtype)
    head = (
        embedding
        if config.tied_embeddings
        else source.read("output.weight", embedding_shape).to(dtype)
    )
    return LlamaWeights(
        dtype=dtype,
        embedding=embedding,
        attention=tuple(
            _attention(config, source, dtype, f"blk.{layer}.") for layer in range(config.num_layers)
        ),
        feed_forward=tuple(
            _feed_forward(config, source, dtype, f"blk.{layer}.")
            for layer in range(config.num_layers)
        ),
        norm=source.read("output_norm.weight", (config.hidden_size,)),
        head=pack(head),
    )


def _attention(
    config: LlamaConfig, source: TensorSource, dtype: torch.dtype, block: str
) -> AttentionWeights:
    query_size = config.num_heads * config.head_dim
    kv_size = config.kv_heads * config.head_dim
    sizes = {"attn_q": query_size, "attn_k": kv_size, "attn_v": kv_size}
    qkv = torch.cat(
        [
            source.read(f"{block}{name}.weight", (size, config.hidden_size)).to(dtype)
            for name, size in sizes.items()
        ]
    )
    output = source.read(f"{block}attn_output.weight", (config.hidden_size, query_size))
    return AttentionWeights(
        norm=source.read(f"{block}attn_norm.weight", (config.hidden_size,)),
        norm_eps=config.norm_eps,
        qkv=pack(qkv),
        output=pack(output.to(dtype)),
        num_heads=config.num_heads,
        kv_heads=config.kv_heads,
    )


def _feed_forward(
    config: LlamaConfig, source: TensorSource, dtype: torch.dtype, block: str
) -> FeedForwardWeights:
    wide = (config.ffn_size, config.hidden_size)
    gate_up = torch.cat(
        [source.read(f"{block}{name}.weight", wide).to(dtype) for name in ("ffn_gate", "ffn_up")]
    )
    down = source.read(f"{block}ffn_down.weight", (config.hidden_size, config.ffn_size))
    return FeedForwardWeights(
        norm=source.read(f"{block}ffn_norm.weight", (config.hidden_size,)),
        norm_eps=config.norm_eps,
        gate_up=pack(gate_up),
        down=pack(down.to(dtype)),
    )


class LlamaModel:
    """Implements `LanguageModel`: float32 hidden states, products and KV in the weights' dtype."""

    def __init__(self, config: LlamaConfig, weights: LlamaWeights) -> None:
        self.config = config
        self._weights = weights
        self._frequencies = rope_frequencies(
            config.rope_base, config.head_dim, config.rope_divisors
        )
        self._spec = AttentionSpec(
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            dtype=weights.dtype,
        )
        self._attention = PagedAttention(self._spec)

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def max_context(self) -> int:
        return self.config.max_context

    @property
    def dtype(self) -> torch.dtype:
        return self._weights.dtype

    @property
    def kv_bytes_per_token(self) -> int:
        return self._spec.kv_bytes_per_token

    def allocate(self, num_pages: int, page_size: int) -> None:
        self._attention.allocate(num_pages, page_size)

    @torch.inference_mode()
    def read_page(self, page: int) -> bytes:
        return self._attention.read_page(page)

    def forward(self, batch: TokenBatch) -> Tensor:
        weights = self._weights
        copies = tuple((copy.source, copy.target, copy.num_tokens) for copy in batch.copies)
        plan = self._attention.plan(batch, copies)
        rotations = rotation_table(torch.tensor(batch.positions), self._frequencies)
        token_ids = torch.tensor(batch.token_ids)
        hidden = embed(token_ids, weights.embedding).float()  # [T, hidden_size]
        for layer in range(self.config.num_layers):
            attention = weights.attention[layer]
            heads = attention.project(hidden, rotations, self.config.rope_interleaved)
            attended = self._attention.attend(layer, plan, heads.q, heads.k, heads.v)
            attention.add_output(hidden, attended)
            weights.feed_forward[layer].add_to(hidden)
        return self._logits(hidden, batch)

    def _logits(self, hidden: Tensor, batch: TokenBatch) -> Tensor:
        weights = self._weights
        wanted = hidden.index_select(0, torch.tensor(batch.logit_indices))
        normed = rms_norm(wanted, weights.norm, self.config.norm_eps, weights.dtype)
        return linear(normed, weights.head).float()  # [L, vocab_size]
