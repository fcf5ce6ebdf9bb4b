"""Multi-head latent attention as a sublayer, in two forms that compute the same.

Plain: every head's keys and values are made of the token's latent vector and cached. Absorbed: the
latent vector itself is cached, once, as the key and the value of a single kv head; what would have
made keys of it is applied to the queries instead, and what would have made values to the results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from furcate.kernels.linear import PackedWeight, linear, pack

if TYPE_CHECKING:
    from torch import Tensor

    from .attention import Attend, Rotation
    from .config import LatentConfig
    from .layers import Norm, Projection, Residual
    from .loader import WeightReader

__all__ = ["LatentAttention", "load_latent_attention"]

LATENT_NORM_EPS = 1e-6  # whatever the model's other norms have


@dataclass(frozen=True, slots=True, eq=False)
class Queries:
    """From rows to queries, at once or by way of a narrower vector."""

    last: Projection
    first: Projection | None
    norm: Norm | None

    def __call__(self, x: Tensor) -> Tensor:
        if self.first is None or self.norm is None:
            return self.last(x)
        return self.last(self.norm(self.first(x), self.last.dtype))


@dataclass(frozen=True, slots=True, eq=False)
class Absorbed:
    """The two halves of what latents are expanded with, head by head."""

    keys: tuple[PackedWeight, ...]  # [kv_rank, nope_dim] each: from queries to latents
    values: tuple[PackedWeight, ...]  # [value_dim, kv_rank] each


@dataclass(frozen=True, slots=True, eq=False)
class LatentAttention:
    config: LatentConfig
    residual: Residual
    queries: Queries
    latent: Projection  # kv_rank numbers, and rope_dim that are rotated
    latent_norm: Norm
    expand: Projection | Absorbed  # latents to keys and values
    output: Projection

    def add_to(self, hidden: Tensor, rotation: Rotation | None, attend: Attend) -> None:
        """Adds the sublayer's result to every row of `hidden` [T, hidden_size]."""
        config, dtype = self.config, self.latent.dtype
        x = self.residual.read(hidden, dtype)
        q = self.queries(x).view(-1, config.num_heads, config.query_dim)
        q_plain, q_turned = q[..., : config.nope_dim], q[..., config.nope_dim :]
        both = self.latent(x)  # [T, kv_rank + rope_dim]
        latent = self.latent_norm(both[:, : config.kv_rank], dtype)
        k_turned = both[:, config.kv_rank :]
        turned = torch.cat((q_turned, k_turned.unsqueeze(1)), dim=1)
        turned = turned.float() if rotation is None else rotation(turned)
        q_turned, k_turned = turned[:, :-1], turned[:, -1:]
        if isinstance(self.expand, Absorbed):
            attended = self._absorbed(self.expand, q_plain, q_turned, latent, k_turned, attend)
        else:
            attended = self._plain(self.expand, q_plain, q_turned, latent, k_turned, attend)
        self.residual.add(hidden, self.output(attended.flatten(1).to(self.output.dtype)))

    def _plain(
        self,
        expand: Projection,
        q_plain: Tensor,
        q_turned: Tensor,
        latent: Tensor,
        k_turned: Tensor,
        attend: Attend,
    ) -> Tensor:
        """[T, num_heads, value_dim]."""
        config = self.config
        heads = expand(latent).view(-1, config.num_heads, config.nope_dim + config.value_dim)
        k_plain, values = heads[..., : config.nope_dim], heads[..., config.nope_dim :]
        q = torch.cat((q_plain.float(), q_turned), dim=2)
        k = torch.cat((k_plain.float(), k_turned.expand(-1, config.num_heads, -1)), dim=2)
        # Keys and values lie in pages of one width.
        v = pad(values, (0, config.query_dim - config.value_dim))
        return attend(q, k, v)[..., : config.value_dim]

    def _absorbed(
        self,
        expand: Absorbed,
        q_plain: Tensor,
        q_turned: Tensor,
        latent: Tensor,
        k_turned: Tensor,
        attend: Attend,
    ) -> Tensor:
        """[T, num_heads, value_dim]."""
        q_latent = _head_by_head(q_plain, expand.keys).float()
        q = torch.cat((q_latent, q_turned), dim=2)
        k = torch.cat((latent.float().unsqueeze(1), k_turned), dim=2)
        attended = attend(q, k, k)[..., : self.config.kv_rank]
        return _head_by_head(attended.to(self.latent.dtype), expand.values)


def _head_by_head(x: Tensor, weights: tuple[PackedWeight, ...]) -> Tensor:
    """Heads [T, H, in] times each head's own matrix: [T, H, out]."""
    return torch.stack(
        [linear(x[:, head].contiguous(), weight) for head, weight in enumerate(weights)], dim=1
    )


def load_latent_attention(
    config: LatentConfig, reader: WeightReader, block: str, residual: Residual, hidden_size: int
) -> LatentAttention:
    latent = config.kv_rank + config.rope_dim
    value_size = config.num_heads * config.value_dim
    return LatentAttention(
        config=config,
        residual=residual,
        queries=_load_queries(config, reader, block, hidden_size),
        latent=reader.projection({f"{block}attn_kv_a_mqa": latent}, hidden_size, bias=config.bias),
        latent_norm=reader.norm(f"{block}attn_kv_a_norm", config.kv_rank, LATENT_NORM_EPS),
        expand=_load_expansion(config, reader, f"{block}attn_kv_b"),
        output=reader.projection(
            {f"{block}attn_output": hidden_size}, value_size, bias=config.bias
        ),
    )


def _load_queries(
    config: LatentConfig, reader: WeightReader, block: str, hidden_size: int
) -> Queries:
    size, rank = config.num_heads * config.query_dim, config.query_rank
    if rank is None:
        return Queries(reader.projection({f"{block}attn_q": size}, hidden_size), None, None)
    return Queries(
        last=reader.projection({f"{block}attn_q_b": size}, rank),
        first=reader.projection({f"{block}attn_q_a": rank}, hidden_size, bias=config.bias),
        norm=reader.norm(f"{block}attn_q_a_norm", rank, LATENT_NORM_EPS),
    )


def _load_expansion(config: LatentConfig, reader: WeightReader, name: str) -> Projection | Absorbed:
    size = config.num_heads * (config.nope_dim + config.value_dim)
    if config.form == "plain":
        return reader.projection({name: size}, config.kv_rank)
    matrix = reader.matrix(f"{name}.weight", (size, config.kv_rank))
    heads = matrix.view(config.num_heads, -1, config.kv_rank)
    return Absorbed(
        keys=tuple(pack(head[: config.nope_dim].t().contiguous()) for head in heads),
        values=tuple(pack(head[config.nope_dim :].contiguous()) for head in heads),
    )
