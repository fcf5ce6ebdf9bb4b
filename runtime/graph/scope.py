"""What the numbers of branches and values mean: in a program as a whole, or in one run of a region.

A run of a region sees the values around it and gives its own numbers meanings that nobody else
sees. Of the branches it sees those alone that it was given or has opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .branch import Branch
    from .cell import Cell
    from .loop import LoopRun

__all__ = ["Scope"]


class Scope:
    """`loop` is the one that a Stop ends. `is_parallel`: other runs of the region, or of one around
    it, go on beside this one."""

    def __init__(
        self,
        parent: Scope | None = None,
        loop: LoopRun | None = None,
        *,
        is_parallel: bool = False,
    ) -> None:
        self.parent = parent
        self.loop = loop
        self.is_parallel: bool = is_parallel or (parent is not None and parent.is_parallel)
        self.branches: dict[int, Branch] = {}
        self.cells: dict[int, Cell] = {}

    @property
    def is_inner(self) -> bool:
        """It is a region's."""
        return self.parent is not None

    def cell(self, value: int) -> Cell | None:
        scope: Scope | None = self
        while scope is not None:
            found = scope.cells.get(value)
            if found is not None:
                return found
            scope = scope.parent
        return None
