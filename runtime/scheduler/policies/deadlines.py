"""Streams that would miss their deadline go first, whatever the order within says.

A stream is urgent from the last moment at which it can start and still end in time, by the pace
measured when it began to wait, until its deadline is over. Before, its place is that of any other:
deadlines that nobody is about to miss cost nothing. Does not end streams whose time is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

from furcate.runtime.scheduler.lazy_heap import LazyHeap

from .base import WaitingStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .base import Policy, Surroundings

__all__ = ["UrgentFirst"]


class UrgentFirst(Generic[WaitingStream]):
    """Urgent streams first, the one that had to start first in front."""

    def __init__(
        self, inner: Policy[WaitingStream], surroundings: Surroundings[WaitingStream]
    ) -> None:
        self._inner = inner
        self._surroundings = surroundings
        self._latest_start: dict[WaitingStream, float] = {}
        self._by_start = LazyHeap[WaitingStream](lambda stream: (self._latest_start[stream],))

    def __len__(self) -> int:
        return len(self._inner)

    def add(self, stream: WaitingStream) -> None:
        self._inner.add(stream)
        if stream.deadline is not None:
            needed = self._surroundings.seconds_needed(stream)
            self._latest_start[stream] = stream.deadline - needed
            self._by_start.push(stream)

    def remove(self, stream: WaitingStream) -> None:
        self._inner.remove(stream)
        self._by_start.discard(stream)
        self._latest_start.pop(stream, None)

    def served(self, stream: WaitingStream, num_tokens: int) -> None:
        self._inner.served(stream, num_tokens)

    def ordered(self) -> Iterator[WaitingStream]:
        if self._by_start:
            yield from self._urgent(self._surroundings.now())
        yield from self._inner.ordered()

    def _urgent(self, now: float) -> Iterator[WaitingStream]:
        for stream in self._by_start.walk(lambda stream: iter((stream,))):
            if self._latest_start[stream] > now:
                return
            if stream.deadline is not None and stream.deadline > now:
                yield stream
