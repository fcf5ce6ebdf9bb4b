"""A ForkOver: one child for each element of a list, each with a run of the region of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .branch import Branch
from .cell import Cell, Ready
from .compare import elements_of
from .let import literal
from .outs import Gather
from .region import RegionStep, run_region
from .scope import Scope

if TYPE_CHECKING:
    from furcate.protocol.graph import ForkOver

    from .entry import Entry
    from .region import Placed, Take

__all__ = ["ForkOverStep"]


@dataclass(frozen=True, slots=True, eq=False)
class ForkOverStep(RegionStep):
    """`node` is the ForkOver that `placed` has; `over` is there when it runs."""

    node: ForkOver
    placed: Placed
    over: Cell
    scope: Scope
    take: Take

    def run(self, branch: Branch, entry: Entry) -> None:
        assert isinstance(self.over.outcome, Ready)
        items = elements_of(self.over.outcome)
        program, node = branch.program, self.node
        program.charge_forks(len(items))
        children = tuple(Branch(program, node.child, branch) for _ in items)
        program.inner_branches += children
        branch.bear(children)
        scopes = [self._scope(index, item) for index, item in enumerate(items)]
        for child, scope in zip(children, scopes, strict=True):
            scope.branches[node.child] = child
            run_region(self.placed.regions[0], scope, child, self.take)
            child.is_dropped = True
        for out, cell in zip(node.outs, entry.outs, strict=True):
            source = out.sources[0]
            parts = [None if source is None else scope.cell(source) for scope in scopes]
            cell.sources = [part for part in parts if part is not None]
            program.derive(Gather(program, cell, parts))

    def _scope(self, index: int, item: Ready) -> Scope:
        scope, ordinal = Scope(self.scope, is_parallel=True), self.placed.ordinal
        for value, ready in ((self.node.index, literal(index)), (self.node.item, item)):
            if value is not None:
                scope.cells[value] = Cell(ordinal, None, value, ready, is_inner=True)
        return scope
