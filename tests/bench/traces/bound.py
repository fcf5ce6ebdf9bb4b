"""The most that any policy could have found, by Belady's rule on single tokens.

A token is used by a turn from its start to its stop, and has to be in the cache then. Between two
uses it is either kept all the time, which makes the later one a hit, or not. The most tokens are
kept if, whenever there is no room for all, those are given up that are used last. This bounds every
cache with the same number of tokens from above, because it is allowed more:

- it knows the future;
- it keeps tokens one by one, not in pages, and any of them, not only prefixes;
- it gives a turn no room for what it draws before that is done, and needs no room to copy.

Whatever a cache really does, the tokens that it holds between two uses fit beside those in use, so
that its hits are one of the choices that the rule has.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .trace import Hint, Start

if TYPE_CHECKING:
    from .trace import Segment, Trace

__all__ = ["belady_hits", "prompt_tokens", "working_set"]


@dataclass(slots=True)
class Kept:
    """Tokens between two uses, those used last on top."""

    tokens: dict[Segment, int] = field(default_factory=dict)
    total: int = 0
    _order: list[tuple[float, Segment]] = field(default_factory=list)

    def put(self, segment: Segment, next_use: float) -> None:
        self.tokens[segment] = segment.length
        self.total += segment.length
        heapq.heappush(self._order, (-next_use, segment))

    def take(self, segment: Segment) -> int:
        """Its next use has come: how much of it was kept."""
        num_tokens = self.tokens.pop(segment, 0)
        self.total -= num_tokens
        return num_tokens

    def shrink(self, capacity: int) -> None:
        while self.total > max(0, capacity):
            segment = self._order[0][1]
            excess = min(self.total - max(0, capacity), self.tokens.get(segment, 0))
            self.total -= excess
            if self.tokens.get(segment, 0) > excess:
                self.tokens[segment] -= excess
            else:
                self.tokens.pop(segment, None)
                heapq.heappop(self._order)


def belady_hits(trace: Trace, capacity: int) -> int:
    """Prompt tokens found, with room for `capacity` tokens."""
    return _sweep(trace, capacity)[0]


def working_set(trace: Trace) -> int:
    """The most tokens at any time that are in use, or have been and will be again."""
    return _sweep(trace, None)[1]


def prompt_tokens(trace: Trace) -> int:
    return sum(segment.length for turn in trace.turns for segment in turn.prompt)


def _sweep(trace: Trace, capacity: int | None) -> tuple[int, int]:
    """Hits, and the most tokens that were held at any time."""
    starts = _starts(trace)
    users: Counter[Segment] = Counter()
    kept = Kept()
    hits = in_use = most = 0
    for event in trace.events():
        if isinstance(event, Hint):
            continue
        turn = event.turn
        if isinstance(event, Start):
            for segment in turn.prompt:
                hits += segment.length if users[segment] else kept.take(segment)
                in_use += 0 if users[segment] else segment.length
                users[segment] += 1
        else:
            users.subtract(turn.prompt)
            for segment in (*turn.prompt, turn.output):
                if users[segment]:
                    continue
                in_use -= segment.length if segment != turn.output else 0
                later = starts[segment]
                place = bisect_left(later, event.time)
                if place < len(later):
                    kept.put(segment, later[place])
        most = max(most, in_use + kept.total)
        if capacity is not None:
            kept.shrink(capacity - in_use)
    return hits, most


def _starts(trace: Trace) -> dict[Segment, list[float]]:
    """When each segment is used, in order."""
    starts: dict[Segment, list[float]] = defaultdict(list)
    for turn in sorted(trace.turns, key=lambda turn: turn.start):
        for segment in turn.prompt:
            starts[segment].append(turn.start)
    return starts
