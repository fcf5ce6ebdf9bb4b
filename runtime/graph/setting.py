"""What every program of a front shares: the model's text side and the limits. Facts only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from .markers import markers_named, model_markers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from furcate.protocol.stream import EngineReady
    from furcate.runtime.tokenize.base import Place, TextCodec
    from furcate.runtime.tokenize.template import ChatTemplate

    from .limits import Limits
    from .markers import Markers

__all__ = ["Setting"]

# Programs of a batch share runs, such as a system prompt between two control tokens. 9 KB cost 2 to
# 3 ms to encode, more than all else that the front does for a program.
KEPT_RUNS = 256
KEPT_CHARS = 32_768
KEPT_MARKERS = 64


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

    def place_behind(self, ids: Sequence[int]) -> Place:
        """Where a text stands that follows these."""
        if not ids:
            return "start"
        return "control" if ids[-1] in self.codec.control_ids else "text"

    def opening(self, run: str, behind: Place) -> str:
        """The run, or where there is none, what a text that stands there begins with."""
        return run or self.codec.placed("-", behind).removesuffix("-")

    def encode(self, text: str) -> tuple[int, ...]:
        """The codec's ids; those of the latest texts are remembered."""
        return self._kept(text) if len(text) <= KEPT_CHARS else tuple(self.codec.encode(text))

    @cached_property
    def markers(self) -> Markers | None:
        """What the model writes around its reasoning, if it reasons."""
        return model_markers(self.codec)

    def markers_named(self, begin: str, end: str) -> Markers:
        return self._markers(begin, end)

    @cached_property
    def _markers(self) -> Callable[[str, str], Markers]:
        return lru_cache(KEPT_MARKERS)(lambda begin, end: markers_named(self.codec, begin, end))

    @cached_property
    def _kept(self) -> Callable[[str], tuple[int, ...]]:
        return lru_cache(KEPT_RUNS)(lambda text: tuple(self.codec.encode(text)))
