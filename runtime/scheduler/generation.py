"""One running Generate of a stream: what it has produced, and whether it is over.

Knows the constraint's matcher, what stops it and the counts. Does not know of pages, batches or
other streams. Tokens reach it one at a time through `take`, sampled and forced ones alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from .stops import StopMatcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.stream import Generate, RawLogprob
    from furcate.runtime.constrain.base import Matcher

    from .masks import MaskTicket

__all__ = ["Finish", "Generation", "Outcome"]

Finish = Literal["stop", "eos", "length", "constraint"]


class Outcome(NamedTuple):
    """How a generation ended. `kept` of its tokens stay; `tail` are the bytes of the next one that
    come before the stop, `matched` the stop itself."""

    finish: Finish
    kept: int
    tail: bytes = b""
    matched: bytes | None = None


@dataclass(slots=True)
class Generation:
    """State of a Generate node. `start` is the length of the stream when it began."""

    node: Generate
    start: int
    budget: int  # tokens it may produce: max_tokens, or less where the context ends
    matcher: Matcher | None
    longest: int | None = None  # tokens that its constraint allows, where that is known
    ids: list[int] = field(default_factory=list)
    logprobs: list[RawLogprob] = field(default_factory=list)
    stops: StopMatcher = field(init=False)
    ends: list[int] = field(default_factory=list)  # bytes of output up to and with each id
    reported: int = 0
    queue: list[int] = field(default_factory=list)  # forced ids to be imposed one a step
    mask: MaskTicket | None = None  # ordered for the next token, or there
    is_slow: bool = False  # the mask before took long
    is_late: bool = False  # its stream waits for the mask

    def __post_init__(self) -> None:
        self.stops = StopMatcher(self.node.stops, self.node.sampling.stop_regex)

    @property
    def index(self) -> int:
        """Ordinal of the next token, the counter of its random number."""
        return len(self.ids)

    def banned_at(self, index: int) -> tuple[int, ...]:
        """Ids that may not be token `index`: an end before min_tokens."""
        return self.node.stop_ids if index < self.node.sampling.min_tokens else ()

    def take(self, token_id: int, piece: bytes, logprob: RawLogprob | None) -> Outcome | None:
        """Adds a token that the matcher has accepted already; the outcome if that ends it."""
        if token_id in self.node.stop_ids:
            return Outcome("eos", len(self.ids))
        self.ids.append(token_id)
        if logprob is not None:
            self.logprobs.append(logprob)
        found = self.stops.push(piece, counts=self.index >= self.node.sampling.min_tokens)
        self.ends.append(len(self.stops.text))
        if found is not None:
            return self._cut(found.cut, found.stop)
        return self.over()

    def over(self) -> Outcome | None:
        """The outcome if nothing more may be drawn as things stand."""
        if self.matcher is not None and self.matcher.is_finished:
            return Outcome("constraint", len(self.ids))
        if self.index >= self.budget:
            return Outcome("length", len(self.ids))
        return None

    def _cut(self, cut: int, stop: bytes) -> Outcome:
        kept = sum(1 for end in self.ends if end <= cut)
        begin = self.ends[kept - 1] if kept else 0
        return Outcome("stop", kept, bytes(self.stops.text[begin:cut]), stop)

    def unreported(self) -> Sequence[int]:
        """Ids that no stop can take back and that were not given out yet; marks them
        given."""
        safe = self.stops.safe_length
        begin = self.reported
        while self.reported < len(self.ids) and self.ends[self.reported] <= safe:
            self.reported += 1
        return self.ids[begin : self.reported]
