"""The gated feed-forward layer as a sublayer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .layers import GATES, chunks

if TYPE_CHECKING:
    from torch import Tensor

    from .config import Activation, FeedForwardConfig
    from .layers import Projection, Residual
    from .loader import WeightReader

__all__ = ["FeedForward", "GatedLayer", "load_feed_forward", "load_gated"]


@dataclass(frozen=True, slots=True, eq=False)
class GatedLayer:
    """From rows in the model's dtype to rows in it. `gate_up` is the gate's rows, then others."""

    activation: Activation
    gate_up: Projection
    down: Projection

    def __call__(self, x: Tensor) -> Tensor:
        return self.down(GATES[self.activation](self.gate_up(x)))


@dataclass(frozen=True, slots=True, eq=False)
class FeedForward:
    residual: Residual
    layer: GatedLayer

    def add_to(self, hidden: Tensor) -> None:
        """Adds the sublayer's result to every row of `hidden` [T, hidden_size]."""
        for rows in chunks(len(hidden)):
            x = self.residual.read(hidden[rows], self.layer.gate_up.dtype)
            self.residual.add(hidden[rows], self.layer(x))


def load_feed_forward(
    config: FeedForwardConfig,
    reader: WeightReader,
    block: str,
    residual: Residual,
    hidden_size: int,
) -> FeedForward:
    return FeedForward(residual, load_gated(config, reader, block, hidden_size))


def load_gated(
    config: FeedForwardConfig, reader: WeightReader, block: str, hidden_size: int, suffix: str = ""
) -> GatedLayer:
    """`suffix` tells apart the gated layers of one block."""
    wide = {f"{block}ffn_{part}{suffix}": config.size for part in ("gate", "up")}
    return GatedLayer(
        activation=config.activation,
        gate_up=reader.projection(wide, hidden_size, bias=config.bias),
        down=reader.projection(
            {f"{block}ffn_down{suffix}": hidden_size}, config.size, bias=config.bias
        ),
    )
