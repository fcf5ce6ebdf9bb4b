"""A node that arrives: what its numbers mean, and where it is queued.

Numbers that mean nothing, and such as are given twice, are refused by name. Knows no node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol

from furcate.errors import UsageError
from furcate.protocol.graph import ValueRef

from .branch import Branch
from .entry import Entry, Share, Step
from .let import literal
from .saving import Saving, begin_from

if TYPE_CHECKING:
    from furcate.protocol.graph import Node, Operand

    from .cell import Cell, Ready
    from .constraints import SharedConstraint
    from .elect import Stance
    from .program import Program
    from .region import Placed
    from .scope import Scope
    from .sessions import Saved

__all__ = ["Arrival", "Tables"]


class Tables(Protocol):
    """What a connection has sent for all its programs."""

    segments: list[str]
    constraints: list[SharedConstraint]


class Arrival:
    """In the program's scope, or in that of a run of a region, whose nodes arrive in each run."""

    def __init__(self, program: Program, tables: Tables, scope: Scope, placed: Placed) -> None:
        self.program = program
        self.tables = tables
        self.scope = scope
        self.placed = placed
        self.ordinal = placed.ordinal

    # Branches ------------------------------------------------------------------------------------

    def branch(self, branch_id: int) -> Branch:
        branch = self.scope.branches.get(branch_id)
        if branch is None and branch_id == 0 and not self.scope.is_inner:  # needs no Root
            branch = self.open_root(0)
        if branch is None:
            self.refuse(f"branch {branch_id} is not known")
        return branch

    def growing(self, branch_id: int) -> Branch:
        branch = self.branch(branch_id)
        if branch.is_dropped and not self.scope.is_inner:
            self.refuse(f"branch {branch_id} was dropped and cannot grow")
        return branch

    def open_root(self, branch_id: int, saved: Saved | None = None) -> Branch:
        branch = self.new_branch(branch_id, None, (self.program.num_roots,))
        self.program.num_roots += 1
        if saved is None:
            branch.open_as_root()
        else:
            begin_from(branch, saved)
        return branch

    def new_branch(
        self, branch_id: int, origin: Branch | None, step: tuple[int, ...] = ()
    ) -> Branch:
        known = self.scope.branches
        if branch_id in known:
            self.refuse(f"branch {branch_id} exists already")
        branch = known[branch_id] = Branch(self.program, branch_id, origin, step)
        if self.scope.is_inner:
            self.program.inner_branches.append(branch)
        return branch

    # Values and tables ---------------------------------------------------------------------------

    def value(self, value: int) -> Cell:
        cell = self.scope.cell(value)
        if cell is None:
            self.refuse(f"value {value} is not known")
        return cell

    def operand(self, arg: Operand) -> Cell | Ready:
        return self.value(arg.value) if isinstance(arg, ValueRef) else literal(arg)

    def declare(self, value: int, branch: int | None) -> Cell:
        if value in self.scope.cells:
            self.refuse(f"value {value} exists already")
        return self.program.declare(self.scope, value, self.ordinal, branch)

    def text(self, text: str | int) -> str:
        if isinstance(text, str):
            return text
        segments = self.tables.segments
        if text >= len(segments):
            self.refuse(f"segment {text} is not in the table of {len(segments)}")
        return segments[text]

    def constraint(self, index: int) -> SharedConstraint:
        known = self.tables.constraints
        if index >= len(known):
            self.refuse(f"constraint {index} is not in the table of {len(known)}")
        return known[index]

    # What becomes of it --------------------------------------------------------------------------

    def queue(
        self,
        branch: Branch,
        node: Node | Share | Stance | Saving | Step,
        *,
        cell: Cell | None = None,
        needs: tuple[Cell, ...] = (),
        text: str = "",
        constraint: SharedConstraint | None = None,
        children: tuple[Branch, ...] = (),
        shares: tuple[Share, ...] = (),
        args: tuple[Cell | Ready, ...] = (),
        outs: tuple[Cell, ...] = (),
    ) -> None:
        branch.queue.append(
            Entry(self.ordinal, node, cell, needs, text, constraint, children, shares, args, outs)
        )
        agenda = self.program.agenda
        if not agenda or agenda[-1] is not branch:
            agenda.append(branch)

    def refuse(self, why: str) -> NoReturn:
        raise UsageError(f"node {self.ordinal}: {why}")
