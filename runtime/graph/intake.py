"""From the nodes of a delta to entries in the queues of branches.

Checks what can be checked without running anything: references, limits, the order of things. An
error here means that client and front disagree about the program, so it refuses the whole program;
a wrong parameter of one node is that node's failure and is found when its branch gets to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol

from furcate.errors import CapacityError, ModelError, UsageError
from furcate.protocol.graph import (
    Drop,
    Fill,
    Fork,
    Gen,
    Ids,
    Join,
    Let,
    Role,
    Root,
    Select,
    Special,
    Text,
    TextOf,
    ValueRef,
)

from .branch import Branch
from .cell import Cell, Ready
from .derived import Derived
from .entry import Entry, Share
from .let import literal, run_let

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.graph import Node

    from .constraints import SharedConstraint
    from .program import Program

__all__ = ["Tables", "take_nodes"]


class Tables(Protocol):
    """What a connection has sent for all its programs."""

    segments: list[str]
    constraints: list[SharedConstraint]


def take_nodes(program: Program, tables: Tables, nodes: Sequence[Node]) -> None:
    """Queues the nodes. Raises UsageError, CapacityError or ModelError at the first that cannot be
    meant; nothing has run by then."""
    limit = program.setting.limits.nodes
    if program.num_nodes + len(nodes) > limit:
        raise CapacityError(f"a program may have {limit} nodes, this one has more")
    for node in nodes:
        _Intake(program, tables, program.num_nodes).take(node)
        program.num_nodes += 1


class _Intake:
    """Of one node."""

    def __init__(self, program: Program, tables: Tables, ordinal: int) -> None:
        self._program = program
        self._tables = tables
        self._ordinal = ordinal

    def take(self, node: Node) -> None:
        if self._program.is_done and not isinstance(node, (TextOf, Let, Drop)):
            self._refuse(f"a {type(node).__name__} comes after the program was done")
        if self._ordinal == 0 and not isinstance(node, Root):
            self._take_root(Root(branch=0))  # a program's own branch needs no word
        match node:
            case Root():
                self._take_root(node)
            case Let():
                self._take_let(node)
            case Drop(branch=branch_id):
                branch = self._branch(branch_id)
                branch.is_dropped = True
                self._program.agenda.append(branch)
            case TextOf(branch=branch_id, value=value):
                self._queue(self._branch(branch_id), node, cell=self._declare(value, branch_id))
            case Fork():
                self._take_fork(node)
            case Join():
                self._take_join(node)
            case Text() | Ids() | Special() | Role() | Fill() | Gen() | Select():
                self._take_content(node)
            case _:
                self._refuse(f"a {type(node).__name__} is not known to this runtime")

    def _take_content(self, node: Text | Ids | Special | Role | Fill | Gen | Select) -> None:
        branch = self._growing(node.branch)
        match node:
            case Text(text=text):
                self._queue(branch, node, text=self._text(text))
            case Fill(value=value):
                self._queue(branch, node, needs=(self._value(value),))
            case Gen(constraint=index):
                constraint = None if index is None else self._constraint(index)
                cell = self._declare(node.value, branch.id)
                self._queue(branch, node, cell=cell, constraint=constraint)
            case Select(value=value):
                self._queue(branch, node, cell=self._declare(value, branch.id))
            case _:
                self._queue(branch, node)

    def _take_root(self, node: Root) -> None:
        program = self._program
        served = program.setting.ready.model
        if node.model is not None and node.model != served:
            raise ModelError(
                f"node {self._ordinal}: model {node.model!r} is not served here; "
                f"the one that is, is {served!r}"
            )
        self._open_root(node.branch, rewrites=node.template == "append")

    def _take_fork(self, node: Fork) -> None:
        program, parent = self._program, self._growing(node.branch)
        limit = program.setting.limits.forks
        if program.num_forked + len(node.children) > limit:
            raise CapacityError(
                f"node {self._ordinal}: a program may fork off {limit} branches, this one forks "
                f"{program.num_forked + len(node.children)}"
            )
        children = []
        for child_id in node.children:
            children.append(self._new_branch(child_id, (*parent.path, parent.num_forked)))
            parent.num_forked += 1
            program.num_forked += 1
        self._queue(parent, node, children=tuple(children))

    def _take_join(self, node: Join) -> None:
        branch = self._growing(node.branch)
        if len(set(node.children)) < len(node.children):
            self._refuse(f"the children {node.children!r} of a join are not all different")
        shares = []
        for child_id in node.children:
            child = self._branch(child_id)
            if child.path[:-1] != branch.path:
                self._refuse(f"branch {child_id} is joined into {branch.id}, not its parent")
            share = Share(Cell(self._ordinal, child_id))
            shares.append(share)
            self._queue(child, share, cell=share.cell)
        needs = tuple(share.cell for share in shares)
        self._queue(branch, node, needs=needs, shares=tuple(shares))

    def _take_let(self, node: Let) -> None:
        program = self._program
        args = [
            self._value(arg.value) if isinstance(arg, ValueRef) else literal(arg)
            for arg in node.args
        ]
        cell = self._declare(node.value, None)

        def compute() -> Ready:
            values = [arg.outcome if isinstance(arg, Cell) else arg for arg in args]
            there = [value for value in values if isinstance(value, Ready)]
            return run_let(node.op, there, program.charge)

        needs = [arg for arg in args if isinstance(arg, Cell)]
        program.derive(Derived(program, cell, needs, compute))

    # References ----------------------------------------------------------------------------------

    def _branch(self, branch_id: int) -> Branch:
        branch = self._program.branches.get(branch_id)
        if branch is None and branch_id == 0:  # the program's own state needs no Root
            branch = self._open_root(0, rewrites=False)
        if branch is None:
            self._refuse(f"branch {branch_id} is not known")
        return branch

    def _growing(self, branch_id: int) -> Branch:
        branch = self._branch(branch_id)
        if branch.is_dropped:
            self._refuse(f"branch {branch_id} was dropped and cannot grow")
        return branch

    def _open_root(self, branch_id: int, *, rewrites: bool) -> Branch:
        branch = self._new_branch(branch_id, (self._program.num_roots,))
        self._program.num_roots += 1
        branch.open_as_root(rewrites)
        return branch

    def _new_branch(self, branch_id: int, path: tuple[int, ...]) -> Branch:
        if branch_id in self._program.branches:
            self._refuse(f"branch {branch_id} exists already")
        branch = self._program.branches[branch_id] = Branch(self._program, branch_id, path)
        return branch

    def _value(self, value: int) -> Cell:
        cell = self._program.cells.get(value)
        if cell is None:
            self._refuse(f"value {value} is not known")
        return cell

    def _declare(self, value: int, branch: int | None) -> Cell:
        if value in self._program.cells:
            self._refuse(f"value {value} exists already")
        return self._program.declare(value, self._ordinal, branch)

    def _text(self, text: str | int) -> str:
        if isinstance(text, str):
            return text
        segments = self._tables.segments
        if text >= len(segments):
            self._refuse(f"segment {text} is not in the table of {len(segments)}")
        return segments[text]

    def _constraint(self, index: int) -> SharedConstraint:
        known = self._tables.constraints
        if index >= len(known):
            self._refuse(f"constraint {index} is not in the table of {len(known)}")
        return known[index]

    def _queue(
        self,
        branch: Branch,
        node: Node | Share,
        *,
        cell: Cell | None = None,
        needs: tuple[Cell, ...] = (),
        text: str = "",
        constraint: SharedConstraint | None = None,
        children: tuple[Branch, ...] = (),
        shares: tuple[Share, ...] = (),
    ) -> None:
        branch.queue.append(
            Entry(self._ordinal, node, cell, needs, text, constraint, children, shares)
        )
        self._program.agenda.append(branch)

    def _refuse(self, why: str) -> NoReturn:
        raise UsageError(f"node {self._ordinal}: {why}")
