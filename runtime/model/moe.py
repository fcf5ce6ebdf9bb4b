"""A mixture of experts as a sublayer: which experts a token goes through, and what they add.

A token's choice, and the order in which its experts are summed, depend on that token alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from furcate.kernels.linear import pack

from .config import FeedForwardConfig
from .feed_forward import load_gated
from .layers import Projection

if TYPE_CHECKING:
    from torch import Tensor

    from .config import ExpertsConfig
    from .feed_forward import GatedLayer
    from .layers import Residual
    from .loader import WeightReader

__all__ = ["Mixture", "Router", "load_mixture"]

LEAST_SUM = 1e-20  # of weights that are divided by their sum


class Choice(NamedTuple):
    """The experts of every token."""

    experts: Tensor  # int64 [T, used]
    weights: Tensor  # float32 [T, used]


@dataclass(frozen=True, slots=True, eq=False)
class Router:
    """Scores are float32, whatever the model's dtype: near ties decide what is computed."""

    config: ExpertsConfig
    projection: Projection  # in float32
    choice_bias: Tensor | None  # float32 [count]

    def __call__(self, x: Tensor) -> Choice:
        config = self.config
        logits = self.projection(x.float())  # [T, count]
        if config.scores == "softmax":
            scores = logits.softmax(dim=-1)
        elif config.scores == "sigmoid":
            scores = 1.0 / logits.neg().exp_().add_(1.0)
        else:
            scores = logits
        candidates = scores if self.choice_bias is None else scores + self.choice_bias
        if config.groups > 1:
            candidates = self._within_groups(candidates)
        experts = candidates.topk(config.used, dim=-1).indices
        weights = scores.gather(1, experts)
        if config.scores == "softmax of chosen":
            weights = weights.softmax(dim=-1)
        if config.normalised:
            weights = weights / (weights.sum(dim=-1, keepdim=True) + LEAST_SUM)
        return Choice(experts, weights * config.scale)

    def _within_groups(self, scores: Tensor) -> Tensor:
        """Scores [T, count] with those outside of a token's best groups at -inf."""
        config = self.config
        grouped = scores.view(len(scores), config.groups, -1)
        worth = grouped.topk(config.group_top, dim=-1).values.sum(dim=-1)  # [T, groups]
        best = worth.topk(config.used_groups, dim=-1).indices
        is_out = torch.ones_like(worth, dtype=torch.bool).scatter_(1, best, False)
        return grouped.masked_fill(is_out.unsqueeze(-1), -torch.inf).flatten(1)


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    residual: Residual
    router: Router
    experts: tuple[GatedLayer, ...]
    shared: GatedLayer | None

    def add_to(self, hidden: Tensor) -> None:
        """Adds the sublayer's result to every row of `hidden` [T, hidden_size]."""
        x = self.residual.read(hidden, self.experts[0].gate_up.dtype)
        choice = self.router(x)
        output = torch.zeros_like(hidden)
        for number in torch.bincount(choice.experts.flatten()).nonzero().flatten().tolist():
            rows, place = (choice.experts == number).nonzero(as_tuple=True)
            result = self.experts[number](x[rows]).float()
            output.index_add_(0, rows, result * choice.weights[rows, place, None])
        if self.shared is not None:
            output += self.shared(x)
        self.residual.add(hidden, output)


def load_mixture(
    config: ExpertsConfig, reader: WeightReader, block: str, residual: Residual, hidden_size: int
) -> Mixture:
    shared = None
    if config.shared_size:
        facts = FeedForwardConfig(config.shared_size, config.expert.activation)
        shared = load_gated(facts, reader, block, hidden_size, suffix="_shexp")
    return Mixture(
        residual=residual,
        router=_load_router(config, reader, block, hidden_size),
        experts=tuple(
            load_gated(config.expert, reader, block, hidden_size, suffix=f".{number}")
            for number in range(config.count)
        ),
        shared=shared,
    )


def _load_router(
    config: ExpertsConfig, reader: WeightReader, block: str, hidden_size: int
) -> Router:
    name, count = f"{block}ffn_gate_inp", config.count
    matrix = reader.exact(f"{name}.weight", (count, hidden_size))
    return Router(
        config=config,
        projection=Projection(
            pack(matrix), reader.vector(f"{name}.bias", count) if config.router_bias else None
        ),
        choice_bias=reader.vector(f"{block}exp_probs_b.bias", count)
        if config.choice_bias
        else None,
    )
