"""A Switch: which of its cases runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.errors import UsageError

from .cell import Ready
from .compare import equal
from .outs import copy
from .region import RegionStep, run_region
from .scope import Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.graph import Case, Switch

    from .branch import Branch
    from .cell import Cell
    from .entry import Entry
    from .region import Placed, Take

__all__ = ["SwitchStep"]


@dataclass(frozen=True, slots=True, eq=False)
class SwitchStep(RegionStep):
    """`node` is the Switch that `placed` has; `on` is there when it runs."""

    node: Switch
    placed: Placed
    on: Cell
    scope: Scope
    take: Take

    def run(self, branch: Branch, entry: Entry) -> None:
        assert isinstance(self.on.outcome, Ready)
        chosen = _case(self.node.cases, self.on.outcome)
        inner = Scope(self.scope, self.scope.loop)
        inner.branches[self.node.branch] = branch
        run_region(self.placed.regions[chosen], inner, branch, self.take)
        for out, cell in zip(self.node.outs, entry.outs, strict=True):
            source = out.sources[chosen]
            copy(branch.program, cell, None if source is None else inner.cell(source))


def _case(cases: Sequence[Case], on: Ready) -> int:
    """The first that is equal, or else the default."""
    for index, case in enumerate(cases):
        if case.when is not None and equal(on.plain, case.when):
            return index
    for index, case in enumerate(cases):
        if case.when is None:
            return index
    known = ", ".join(repr(case.when) for case in cases)
    raise UsageError(
        f"no case of the switch is equal to {on.plain!r:.80} and there is no default; there are: "
        f"{known}"
    )
