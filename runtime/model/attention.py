"""Grouped-query attention as a sublayer: projections, norms and rotation around a backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from furcate.kernels.rope import rotate

from .layers import chunks

if TYPE_CHECKING:
    from torch import Tensor

    from .config import AttentionConfig
    from .layers import Norm, Projection, Residual
    from .loader import WeightReader

__all__ = ["Attend", "Attention", "Rotation", "load_attention"]


class Attend(Protocol):
    """One layer of an attention backend with the plan of a forward."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """The angles of a forward's positions; dimensions past the table's stay as they are."""

    table: Tensor  # float32 [2, T, size / 2]
    interleaved: bool

    def __call__(self, heads: Tensor) -> Tensor:
        """Heads [T, H, D] with their first dimensions turned, in float32."""
        size = 2 * self.table.shape[2]
        turned = rotate(heads[..., :size], self.table, self.interleaved)
        if size == heads.shape[2]:
            return turned
        return torch.cat((turned, heads[..., size:].float()), dim=-1)


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """`qkv` is the three projections, one on another."""

    config: AttentionConfig
    residual: Residual
    qkv: Projection
    output: Projection
    query_norm: Norm | None = None
    key_norm: Norm | None = None
    sinks: Tensor | None = None  # float32 [num_heads]

    def add_to(self, hidden: Tensor, rotation: Rotation | None, attend: Attend) -> None:
        """Adds the sublayer's result to every row of `hidden` [T, hidden_size]."""
        q, k, v = self._project(hidden)
        q, k = self._normed(q, self.query_norm), self._normed(k, self.key_norm)
        if rotation is not None:
            turned = rotation(torch.cat((q, k), dim=1))
            q, k = turned[:, : q.shape[1]], turned[:, q.shape[1] :]
        attended = attend(q, k, v, self.sinks)
        self.residual.add(hidden, self.output(attended.flatten(1).to(self.output.dtype)))

    def _project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of every row, [T, heads, head_dim] each."""
        config, dtype = self.config, self.qkv.dtype
        num_heads = config.num_heads + 2 * config.kv_heads
        qkv = hidden.new_empty((len(hidden), num_heads * config.head_dim), dtype=dtype)
        for rows in chunks(len(hidden)):
            qkv[rows] = self.qkv(self.residual.read(hidden[rows], dtype))
        heads = qkv.view(-1, num_heads, config.head_dim)
        num_rotated = config.num_heads + config.kv_heads
        k, v = heads[:, config.num_heads : num_rotated], heads[:, num_rotated:]
        return heads[:, : config.num_heads], k, v

    def _normed(self, heads: Tensor, norm: Norm | None) -> Tensor:
        if norm is None:
            return heads
        width = norm.weight.shape[0]
        return norm(heads.reshape(-1, width), torch.float32).view(heads.shape)


def load_attention(
    config: AttentionConfig, reader: WeightReader, block: str, residual: Residual, hidden_size: int
) -> Attention:
    query, kv = config.num_heads * config.head_dim, config.kv_heads * config.head_dim
    sizes = {f"{block}attn_q": query, f"{block}attn_k": kv, f"{block}attn_v": kv}
    has_norm = config.qk_norm != "none"
    by_head = config.qk_norm == "head"
    norms = {
        "attn_q_norm": config.head_dim if by_head else query,
        "attn_k_norm": config.head_dim if by_head else kv,
    }
    return Attention(
        config=config,
        residual=residual,
        qkv=reader.projection(sizes, hidden_size, bias=config.qkv_bias),
        output=reader.projection(
            {f"{block}attn_output": hidden_size}, query, bias=config.output_bias
        ),
        query_norm=reader.norm(f"{block}attn_q_norm", norms["attn_q_norm"]) if has_norm else None,
        key_norm=reader.norm(f"{block}attn_k_norm", norms["attn_k_norm"]) if has_norm else None,
        sinks=reader.vector(f"{block}attn_sinks.weight", config.num_heads)
        if config.sinks
        else None,
    )
