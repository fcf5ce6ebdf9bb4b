"""The blocks that llama-family models are built of, on packed weights.

Hidden states [T, hidden_size] are float32 between blocks, products are in the model's dtype.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.kernels.linear import TILE_ROWS, PackedWeight, linear
from furcate.kernels.rms_norm import rms_norm
from furcate.kernels.rope import rotate
from furcate.kernels.silu_mul import silu_mul

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

__all__ = ["AttentionWeights", "FeedForwardWeights", "Heads"]

# Rows that go through one block at a time, so that its temporaries stay in the second-level cache.
CHUNK_ROWS = 4 * TILE_ROWS


@dataclass(frozen=True, slots=True)
class Heads:
    """Rotated queries, rotated keys and values of T tokens."""

    q: Tensor  # float32 [T, num_heads, head_dim]
    k: Tensor  # float32 [T, kv_heads, head_dim]
    v: Tensor  # model dtype [T, kv_heads, head_dim]


@dataclass(frozen=True, slots=True)
class AttentionWeights:
    """Norm and projections around attention. `qkv` is the three projections, one on another."""

    norm: Tensor
    norm_eps: float
    qkv: PackedWeight
    output: PackedWeight
    num_heads: int
    kv_heads: int

    def project(self, hidden: Tensor, rotations: Tensor, interleaved: bool) -> Heads:
        """Queries, keys and values of every row of `hidden`."""
        num_tokens = hidden.shape[0]
        qkv = hidden.new_empty((hidden.shape[0], self.qkv.out_features), dtype=self.qkv.dtype)
        for rows in _chunks(hidden.shape[0]):
            normed = rms_norm(hidden[rows], self.norm, self.norm_eps, self.qkv.dtype)
            qkv[rows] = linear(normed, self.qkv)
        num_rotated = self.num_heads + self.kv_heads
        num_heads = num_rotated + self.kv_heads
        heads = qkv.view(num_tokens, num_heads, self.qkv.out_features // num_heads)
        rotated = rotate(heads[:, :num_rotated], rotations, interleaved)
        return Heads(
            q=rotated[:, : self.num_heads],
            k=rotated[:, self.num_heads :],
            v=heads[:, num_rotated:],
        )

    def add_output(self, hidden: Tensor, attended: Tensor) -> None:
        """Adds the output projection of `attended` [T, num_heads, head_dim] to every row."""
        flat = attended.view(-1, self.output.in_features).to(self.output.dtype)
        hidden += linear(flat, self.output)


@dataclass(frozen=True, slots=True)
class FeedForwardWeights:
    """Norm and the gated feed-forward layer. `gate_up` is the gate's rows, then the other's."""

    norm: Tensor
    norm_eps: float
    gate_up: PackedWeight
    down: PackedWeight

    def add_to(self, hidden: Tensor) -> None:
        """Adds the layer's result to every row of `hidden`."""
        for rows in _chunks(hidden.shape[0]):
            normed = rms_norm(hidden[rows], self.norm, self.norm_eps, self.gate_up.dtype)
            hidden[rows] += linear(silu_mul(linear(normed, self.gate_up)), self.down)


def _chunks(num_rows: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK_ROWS) for start in range(0, num_rows, CHUNK_ROWS))
