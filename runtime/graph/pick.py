"""A value that is one of several, once it is known which: Let "pick".

Needs only the one that is picked: the others may have failed, as the values of those do who lose an
election.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.errors import UsageError

from .cell import Cell, Failure, Ready

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .derived import Resolver

__all__ = ["Pick"]


class Pick:
    """`operands` are the list `order`, the rank in it, and the values."""

    def __init__(self, resolver: Resolver, cell: Cell, operands: Sequence[Cell | Ready]) -> None:
        if len(operands) < 3:
            raise UsageError(f"let 'pick' takes 3 operands or more, got {len(operands)}")
        self._resolver = resolver
        self._cell = cell
        self._order, self._rank, *self._values = operands
        self._awaited: Cell | None = None
        cell.sources = [operand for operand in operands if isinstance(operand, Cell)]

    def advance(self) -> None:
        if self._cell.outcome is not None:
            return
        order, rank = self._outcome(self._order), self._outcome(self._rank)
        if order is None or rank is None:
            return
        index = self._index(order, rank)
        outcome = index if isinstance(index, Failure) else self._outcome(self._values[index])
        if isinstance(outcome, Failure):
            self._resolver.resolve(self._cell, outcome.upstream())
        elif outcome is not None:
            self._resolver.resolve(self._cell, outcome)

    def _outcome(self, operand: Cell | Ready) -> Ready | Failure | None:
        if isinstance(operand, Ready):
            return operand
        if operand.outcome is None and self._awaited is not operand:
            operand.waiters.append(self)
            self._awaited = operand
        return operand.copied

    def _index(self, order: Ready | Failure, rank: Ready | Failure) -> int | Failure:
        for outcome in (order, rank):
            if isinstance(outcome, Failure):
                return outcome
        assert isinstance(order, Ready)
        assert isinstance(rank, Ready)
        indices, place = order.data, rank.data
        if isinstance(indices, list) and isinstance(place, int) and 0 <= place < len(indices):
            index = indices[place]
            if isinstance(index, int) and 0 <= index < len(self._values):
                return index
        why = f"let 'pick': there is no value at rank {place!r} of {indices!r:.80}"
        return Failure("usage", why, self._cell.ordinal)
