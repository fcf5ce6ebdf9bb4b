"""A Loop: one run of its region after the other, on one branch.

The next run begins when the branch has got to the end of the one before and the condition of that
one is known. What is carried from run to run is no copy: the numbers mean other cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .cell import Cell, Ready
from .compare import elements_of, truth
from .entry import Entry, Step
from .let import literal
from .outs import copy, unset
from .region import run_region
from .scope import Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.graph import Loop, Out

    from .branch import Branch
    from .region import Placed, Take

__all__ = ["LoopRun", "LoopStep", "StopStep"]


@dataclass(slots=True, eq=False)
class LoopRun:
    """One loop while it runs. `latest` is the scope of the present run."""

    node: Loop
    placed: Placed
    scope: Scope
    take: Take
    items: Sequence[Ready] | None = None
    num_runs: int = 0
    is_stopped: bool = False
    latest: Scope | None = None

    @property
    def is_used_up(self) -> bool:
        most = self.node.max_iters if self.items is None else len(self.items)
        return self.num_runs >= min(most, self.node.max_iters)

    def go_on(self, branch: Branch, outs: tuple[Cell, ...]) -> None:
        """Begins the next run, or ends the loop."""
        if self.is_stopped or self.is_used_up:
            self._end(branch, outs)
            return
        scope = Scope(self.scope, self)
        scope.branches[self.node.branch] = branch
        for carry in self.node.carried:
            scope.cells[carry.value] = self._carried(carry.value, carry.first, carry.next)
        if self.node.index is not None:
            scope.cells[self.node.index] = self._given(self.node.index, literal(self.num_runs))
        if self.node.item is not None and self.items is not None:
            item = self._given(self.node.item, self.items[self.num_runs])
            scope.cells[self.node.item] = item
        self.latest = scope
        self.num_runs += 1
        then = Entry(self.placed.ordinal, _Turn(self), outs=outs)
        run_region(self.placed.regions[0], scope, branch, self.take, then)

    def until(self) -> Cell | None:
        """Of the present run."""
        if self.node.until is None or self.latest is None:
            return None
        return self.latest.cell(self.node.until)

    def _carried(self, value: int, first: int | None, following: int) -> Cell:
        if self.latest is not None:
            found = self.latest.cell(following)
        else:
            found = None if first is None else self.scope.cell(first)
        return found or Cell(self.placed.ordinal, None, value, unset(self.placed.ordinal))

    def _given(self, value: int, ready: Ready) -> Cell:
        return Cell(self.placed.ordinal, None, value, ready, is_inner=True)

    def _end(self, branch: Branch, outs: tuple[Cell, ...]) -> None:
        for out, cell in zip(self.node.outs, outs, strict=True):
            copy(branch.program, cell, self._source(out))

    def _source(self, out: Out) -> Cell | None:
        source = out.sources[0]
        if self.latest is not None:
            return None if source is None else self.latest.cell(source)
        for carry in self.node.carried:  # it never ran
            if carry.next == source and carry.first is not None:
                return self.scope.cell(carry.first)
        return None


class _LoopPart(Step):
    """Behind it more runs of the loop may come."""

    __slots__ = ()

    loop: LoopRun

    @property
    def num_generations(self) -> int:
        return self.loop.placed.num_generations


@dataclass(frozen=True, slots=True, eq=False)
class LoopStep(_LoopPart):
    """Where a loop begins; `over` is there when it does."""

    loop: LoopRun
    over: Cell | None

    def run(self, branch: Branch, entry: Entry) -> None:
        if self.over is not None:
            assert isinstance(self.over.outcome, Ready)
            self.loop.items = elements_of(self.over.outcome)
        self.loop.go_on(branch, entry.outs)


@dataclass(frozen=True, slots=True, eq=False)
class _Turn(_LoopPart):
    """Behind a run: the branch has got to its end."""

    loop: LoopRun

    def run(self, branch: Branch, entry: Entry) -> None:
        until = self.loop.until()
        if until is None or self.loop.is_stopped:
            self.loop.go_on(branch, entry.outs)
            return
        # Only now the condition is needed, and a Stop makes it worthless.
        then = Entry(entry.ordinal, _Verdict(self.loop, until), None, (until,), outs=entry.outs)
        branch.queue.appendleft(then)


@dataclass(frozen=True, slots=True, eq=False)
class _Verdict(_LoopPart):
    """The condition is there."""

    loop: LoopRun
    until: Cell

    def run(self, branch: Branch, entry: Entry) -> None:
        assert isinstance(self.until.outcome, Ready)
        self.loop.is_stopped = truth(self.until.outcome.plain)
        self.loop.go_on(branch, entry.outs)


@dataclass(frozen=True, slots=True, eq=False)
class StopStep(Step):
    loop: LoopRun

    def run(self, branch: Branch, entry: Entry) -> None:
        self.loop.is_stopped = True
