"""What every program of a front shares: the model's text side and the limits. Facts only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from furcate.protocol.stream import EngineReady
    from furcate.runtime.tokenize.base import TextCodec
    from furcate.runtime.tokenize.template import ChatTemplate

    from .limits import Limits

__all__ = ["Setting"]


@dataclass(frozen=True)
class Setting:
    """`template` is None for a model that has none."""

    codec: TextCodec
    template: ChatTemplate | None
    ready: EngineReady
    limits: Limits

    @cached_property
    def longest_token(self) -> int:
        """Bytes of the longest token: a text cannot have fewer tokens than its share of these."""
        return max(1, max(map(len, self.codec.table), default=1))
