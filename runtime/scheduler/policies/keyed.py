"""Streams by a key that does not change while they wait. Does not know what the key means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

from furcate.runtime.scheduler.lazy_heap import Key, LazyHeap

from .base import WaitingStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Keyed"]


class Keyed(Generic[WaitingStream]):
    """Least key first."""

    def __init__(self, key: Callable[[WaitingStream], Key]) -> None:
        self._heap = LazyHeap(key)

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, stream: WaitingStream) -> None:
        self._heap.push(stream)

    def remove(self, stream: WaitingStream) -> None:
        self._heap.discard(stream)

    def served(self, stream: WaitingStream, num_tokens: int) -> None:
        """Does not matter here."""

    def ordered(self) -> Iterator[WaitingStream]:
        return self._heap.walk(lambda stream: iter((stream,)))
