"""A value that follows from others without the engine: Let, TextOf, a child's share of a Join."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from furcate.errors import FurcateError

from .cell import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .cell import Cell, Outcome, Ready

__all__ = ["Derived", "Resolver"]


class Resolver(Protocol):
    def resolve(self, cell: Cell, outcome: Outcome) -> None: ...


@dataclass(slots=True, eq=False)
class Derived:
    """Computes `cell` as soon as each of `needs` is there; fails it as soon as one has failed."""

    resolver: Resolver
    cell: Cell
    needs: Sequence[Cell]
    compute: Callable[[], Ready]
    num_there: int = 0

    def __post_init__(self) -> None:
        self.cell.sources = self.needs

    def advance(self) -> None:
        while self.num_there < len(self.needs):
            need = self.needs[self.num_there]
            if need.outcome is None:
                need.waiters.append(self)
                return
            if isinstance(need.outcome, Failure):
                self.resolver.resolve(self.cell, need.outcome.upstream())
                return
            self.num_there += 1
        try:
            outcome: Outcome = self.compute()
        except FurcateError as error:
            outcome = Failure.of(error, self.cell.ordinal)
        self.resolver.resolve(self.cell, outcome)
