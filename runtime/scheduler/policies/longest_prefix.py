"""The stream of which most is cached first, among the first few of another order.

What is cached changes with every step, so it is looked up when somebody is to run, and only for a
window: however many wait, a step costs at most one look for each stream in the window and one for
each stream that it lets in.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Generic

from .base import WaitingStream
from .fcfs import first_come_first_served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .base import Policy, Surroundings

__all__ = ["WINDOW", "LongestPrefix", "longest_prefix"]

# Of the oldest streams: enough for the requests of a few templates that come mixed. A look takes
# some microseconds, so that a window takes less than a tenth of a millisecond.
WINDOW = 16


class LongestPrefix(Generic[WaitingStream]):
    """Who is in the window and has most cached goes first; among equals the order within counts."""

    def __init__(
        self,
        inner: Policy[WaitingStream],
        cached_prefix: Callable[[WaitingStream], int],
        window: int,
    ) -> None:
        self._inner = inner
        self._cached_prefix = cached_prefix
        self._window = window

    def __len__(self) -> int:
        return len(self._inner)

    def add(self, stream: WaitingStream) -> None:
        self._inner.add(stream)

    def remove(self, stream: WaitingStream) -> None:
        self._inner.remove(stream)

    def served(self, stream: WaitingStream, num_tokens: int) -> None:
        self._inner.served(stream, num_tokens)

    def ordered(self) -> Iterator[WaitingStream]:
        source = self._inner.ordered()
        window = [(self._cached_prefix(s), s) for s in islice(source, self._window)]
        while window:
            best = max(range(len(window)), key=lambda index: window[index][0])
            yield window.pop(best)[1]
            window += [(self._cached_prefix(s), s) for s in islice(source, 1)]


def longest_prefix(surroundings: Surroundings[WaitingStream]) -> Policy[WaitingStream]:
    """Over the oldest streams."""
    oldest = first_come_first_served(surroundings)
    return LongestPrefix(oldest, surroundings.cached_prefix, WINDOW)
