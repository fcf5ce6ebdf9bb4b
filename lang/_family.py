"""Which branches of a program come from which, and which of them were given up: what fails there is
no failure of the program, whether it failed before or after that was known."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._slot import Slot

__all__ = ["Family"]


class Family:
    """Of branches by their numbers; written by whoever records the program."""

    def __init__(self) -> None:
        self._ancestors: dict[int, tuple[int, ...]] = {}
        self._cancelled: set[int] = set()
        self._elections: list[tuple[Slot, tuple[int, ...]]] = []

    def add(self, branch: int, ancestors: tuple[int, ...]) -> None:
        self._ancestors[branch] = ancestors

    def cancel(self, branch: int) -> None:
        self._cancelled.add(branch)

    def elect(self, order: Slot, candidates: Sequence[int]) -> None:
        self._elections.append((order, tuple(candidates)))

    def is_given_up(self, branch: int | None) -> bool:
        """Whether it, or one that it comes from, was cancelled or has lost an election."""
        if branch is None or not (self._cancelled or self._elections):
            return False
        return not self._given_up().isdisjoint((*self._ancestors.get(branch, ()), branch))

    def _given_up(self) -> set[int]:
        found = set(self._cancelled)
        for order, candidates in self._elections:
            chosen = order.data if order.failure is None else ()
            if order.settled and isinstance(chosen, list | tuple):
                found.update(c for i, c in enumerate(candidates) if i not in chosen)
        return found
