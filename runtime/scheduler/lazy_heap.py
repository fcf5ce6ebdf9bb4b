"""A heap of items whose keys may grow while they are in it, walked in order without being emptied.

Costs are logarithmic: a key is looked at when its item comes up, not when it changes. Does not know
what the items are.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Key", "LazyHeap"]

Key = tuple[float, ...]
Item = TypeVar("Item")
Found = TypeVar("Found")


class LazyHeap(Generic[Item]):
    """Least key first, equal ones in the order they were pushed. Items are hashable and are in it
    once."""

    def __init__(self, key: Callable[[Item], Key]) -> None:
        self._key = key
        self._heap: list[tuple[Key, int, Item]] = []  # keys as they were, so too small at worst
        self._tickets: dict[Item, int] = {}  # which entry is the item's; others are void
        self._last = 0

    def __len__(self) -> int:
        return len(self._tickets)

    def __contains__(self, item: Item) -> bool:
        return item in self._tickets

    def push(self, item: Item) -> None:
        """Puts an item in, or in its place again where its key has fallen."""
        self._last += 1
        self._tickets[item] = self._last
        heappush(self._heap, (self._key(item), self._last, item))
        self._compact()

    def discard(self, item: Item) -> None:
        if self._tickets.pop(item, None) is not None:
            self._compact()

    def first(self) -> Item | None:
        while self._heap:
            key, ticket, item = self._heap[0]
            if self._tickets.get(item) != ticket:
                heappop(self._heap)
                continue
            actual = self._key(item)
            if actual <= key:
                return item
            heapreplace(self._heap, (actual, ticket, item))
        return None

    def walk(self, below: Callable[[Item], Iterator[Found]]) -> Iterator[Found]:
        """The next of what is below the item whose key is least at that moment, again and again.

        Items may be discarded and keys may grow meanwhile; an item that is pushed meanwhile may be
        left out.
        """
        self.first()
        heap = self._heap
        begun: dict[Item, Iterator[Found]] = {}
        # (key, ticket, count, index in the heap where its children are still to come, item)
        frontier = [(*heap[0][:2], 0, 0, heap[0][2])] if heap else []
        count = 0
        while frontier:
            key, ticket, _, index, item = heappop(frontier)
            for child in range(2 * index + 1, min(2 * index + 3, len(heap))) if index >= 0 else ():
                count += 1
                heappush(frontier, (*heap[child][:2], count, child, heap[child][2]))
            if self._tickets.get(item) != ticket:
                continue
            actual = self._key(item)
            if actual <= key:
                if item not in begun:
                    begun[item] = below(item)
                found = next(begun[item], None)
                if found is None:
                    continue
                yield found
                if self._tickets.get(item) != ticket:
                    continue
                actual = self._key(item)
            count += 1
            heappush(frontier, (actual, ticket, count, -1, item))

    def _compact(self) -> None:
        """Drops void entries once they are the greater part, and all where nothing else is left."""
        if self._tickets and len(self._heap) <= 2 * len(self._tickets) + 8:
            return
        tickets = self._tickets
        self._heap = [entry for entry in self._heap if tickets.get(entry[2]) == entry[1]]
        heapify(self._heap)
