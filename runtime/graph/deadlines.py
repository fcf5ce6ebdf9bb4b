"""Which program runs out of time next."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .program import Program

__all__ = ["Deadlines"]


class Deadlines:
    """Programs that end before their deadline are dropped when they come up, or when they are more
    than half of what is kept."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Program]] = []

    def __len__(self) -> int:
        self._tidy()
        return len(self._heap)

    def add(self, deadline: float, program: Program) -> None:
        heapq.heappush(self._heap, (deadline, program.serial, program))
        if len(self._heap) % 64 == 0:
            self._tidy()

    def next(self) -> float | None:
        while self._heap and not self._heap[0][2].is_open:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[Program]:
        """The programs whose time is over; they are not reported again."""
        found = []
        while (first := self.next()) is not None and first <= now:
            found.append(heapq.heappop(self._heap)[2])
        return found

    def _tidy(self) -> None:
        self._heap = [item for item in self._heap if item[2].is_open]
        heapq.heapify(self._heap)
