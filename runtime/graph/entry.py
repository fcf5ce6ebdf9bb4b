"""A node of the graph on its way through a branch, with its references looked up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from furcate.protocol.graph import Node

    from .branch import Branch
    from .cell import Cell
    from .constraints import SharedConstraint
    from .content import Piece
    from .roles import Roles

__all__ = ["Entry", "Share"]


@dataclass(slots=True, eq=False)
class Share:
    """What a child gives to one Join: filled when the child gets to the place where the Join was
    recorded. `cell` is resolved once all its text is there."""

    cell: Cell
    pieces: list[Piece] = field(default_factory=list)
    start: Roles | None = None
    roles: Roles | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """`node` is a Share where the branch is a child that an ancestor joins. The branch holds at the
    entry until all of `needs` are resolved."""

    ordinal: int
    node: Node | Share
    cell: Cell | None = None
    needs: tuple[Cell, ...] = ()
    text: str = ""
    constraint: SharedConstraint | None = None
    children: tuple[Branch, ...] = ()
    shares: tuple[Share, ...] = ()
