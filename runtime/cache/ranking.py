"""Things in the order of a key that changes: a heap whose outdated entries are skipped.

It knows nothing of what it ranks.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RankKey", "Ranking"]

T = TypeVar("T")
RankKey = tuple[float, ...]

SLACK = 32  # outdated entries that are worth no rebuilding


class Ranking(Generic[T]):
    """Each item once, with its key; equal keys in the order in which they were set.

    `set` and `discard` take O(log n), `first` that much for each change since the last one.
    """

    def __init__(self) -> None:
        self._entries: dict[T, tuple[RankKey, int]] = {}
        self._heap: list[tuple[RankKey, int, T]] = []
        self._next = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, item: T) -> bool:
        return item in self._entries

    def __iter__(self) -> Iterator[T]:
        """In no particular order."""
        return iter(self._entries)

    def key(self, item: T) -> RankKey | None:
        """The key that the item was given; None if it is not here."""
        entry = self._entries.get(item)
        return None if entry is None else entry[0]

    def set(self, item: T, key: RankKey) -> None:
        """Put the item where its key says, wherever it was before."""
        if self.key(item) == key:
            return
        self._next += 1
        self._entries[item] = (key, self._next)
        heapq.heappush(self._heap, (key, self._next, item))
        if len(self._heap) > 2 * len(self._entries) + SLACK:
            self._rebuild()

    def discard(self, item: T) -> None:
        self._entries.pop(item, None)

    def first(self) -> T | None:
        """The item with the smallest key."""
        heap = self._heap
        while heap:
            key, number, item = heap[0]
            if self._entries.get(item) == (key, number):
                return item
            heapq.heappop(heap)
        return None

    def _rebuild(self) -> None:
        self._heap = [(key, number, item) for item, (key, number) in self._entries.items()]
        heapq.heapify(self._heap)
