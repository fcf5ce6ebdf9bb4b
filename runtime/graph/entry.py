"""A node of the graph on its way through a branch, with its references looked up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from furcate.protocol.graph import Node

    from .branch import Branch
    from .cell import Cell, Ready
    from .constraints import SharedConstraint
    from .content import Piece
    from .elect import Stance
    from .roles import Roles
    from .saving import Saving

__all__ = ["Entry", "Share", "Step"]


@dataclass(slots=True, eq=False)
class Share:
    """What a child gives to one Join: filled when the child gets to the place where the Join was
    recorded. `cell` is resolved once all its text is there."""

    cell: Cell
    pieces: list[Piece] = field(default_factory=list)
    start: Roles | None = None
    roles: Roles | None = None


class Step(ABC):
    """Control flow on its way through a branch."""

    __slots__ = ()

    @property
    def num_generations(self) -> int:
        """About how many are to come of it, for hints."""
        return 0

    @abstractmethod
    def run(self, branch: Branch, entry: Entry) -> None:
        """All that the entry needs is there."""


class Entry(msgspec.Struct, frozen=True, eq=False):
    """`node` is a Share where the branch is a child that an ancestor joins, a Stance where it is a
    candidate of an Elect, a Step where it is control flow with the `outs`. The branch holds at the
    entry until all of `needs` are resolved; `args` are waited for by what the node begins."""

    ordinal: int
    node: Node | Share | Stance | Saving | Step
    cell: Cell | None = None
    needs: tuple[Cell, ...] = ()
    text: str = ""
    constraint: SharedConstraint | None = None
    children: tuple[Branch, ...] = ()
    shares: tuple[Share, ...] = ()
    args: tuple[Cell | Ready, ...] = ()
    outs: tuple[Cell, ...] = ()
