"""From the nodes of a delta to entries in the queues of branches.

Checks what can be checked without running anything: references, limits, the order of things. An
error here means that client and front disagree about the program, so it refuses the whole program;
a wrong parameter of one node is that node's failure and is found when its branch gets to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol

from furcate.errors import CapacityError, ModelError, UsageError
from furcate.protocol.graph import (
    Call,
    Drop,
    Elect,
    Fill,
    Fork,
    ForkOver,
    Gen,
    Ids,
    Join,
    Let,
    Loop,
    Mark,
    Pin,
    Recall,
    Role,
    Root,
    Save,
    Score,
    Select,
    Special,
    Stop,
    Switch,
    Text,
    TextOf,
    ValueRef,
)

from .branch import Branch
from .cell import Cell, Failure, Ready
from .derived import Derived
from .elect import Election, Stance, check_elect
from .entry import Entry, Share, Step
from .fork_over import ForkOverStep
from .let import literal, run_let
from .loop import LoopRun, LoopStep, StopStep
from .pick import Pick
from .region import Placed, place
from .saving import Saving, begin_from
from .switch import SwitchStep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.graph import Node, Operand

    from .constraints import SharedConstraint
    from .program import Program
    from .scope import Scope
    from .sessions import Saved

__all__ = ["Tables", "take_nodes"]

# Steps of elected branches stand apart from those of forks, which are counted later.
ELECTED = 2**32


class Tables(Protocol):
    """What a connection has sent for all its programs."""

    segments: list[str]
    constraints: list[SharedConstraint]


def take_nodes(program: Program, tables: Tables, nodes: Sequence[Node]) -> None:
    """Queues the nodes. Raises UsageError, CapacityError or ModelError at the first that cannot be
    meant; nothing has run by then."""
    limits = program.setting.limits
    placed = place(nodes, program.num_nodes, limits)
    if placed and placed[-1].end > limits.nodes:
        raise CapacityError(f"a program may have {limits.nodes} nodes, this one has more")
    for each in placed:
        _take(program, tables, each, program.scope)
        program.num_nodes = each.end
        program.num_taken += 1


def _take(program: Program, tables: Tables, placed: Placed, scope: Scope) -> None:
    _Intake(program, tables, scope, placed).take(placed.node)


class _Intake:
    """Of one node, in a scope: the program's, or that of a region's run."""

    def __init__(self, program: Program, tables: Tables, scope: Scope, placed: Placed) -> None:
        self._program = program
        self._tables = tables
        self._scope = scope
        self._placed = placed
        self._ordinal = placed.ordinal

    def take(self, node: Node) -> None:
        if self._scope.is_inner:
            if isinstance(node, (Root, Recall)):
                self._refuse(f"a {type(node).__name__} cannot stand in a region")
        elif self._program.is_done and not isinstance(node, (TextOf, Let, Recall, Drop)):
            self._refuse(f"a {type(node).__name__} comes after the program was done")
        elif self._ordinal == 0 and not isinstance(node, Root):
            self._take_root(Root(branch=0))  # a program's own branch needs no word
        match node:
            case Text() | Role() | Gen() | Ids() | Special() | Fill() | Select():
                self._take_content(node)
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
            case Elect():
                self._take_elect(node)
            case Call():
                self._take_call(node)
            case Save(branch=branch_id, values=values):
                cells = tuple((name, self._value(value)) for name, value in values)
                self._queue(self._growing(branch_id), Saving(node, cells))
            case Recall():
                self._take_recall(node)
            case Pin(branch=branch_id, value=value):
                self._queue(self._growing(branch_id), node, cell=self._declare(value, None))
            case Score():
                self._take_score(node)
            case Mark(branch=branch_id, value=value):
                cell = self._declare(value, branch_id) if node.edge == "end" else None
                self._queue(self._branch(branch_id), node, cell=cell)
            case Switch() | Loop() | ForkOver() | Stop():
                self._take_flow(node)
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
                cell, outs = self._declare(node.value, branch.id), tuple[Cell, ...]()
                if node.reasoning is not None:
                    outs = (self._declare(node.reasoning.value, branch.id),)
                self._queue(branch, node, cell=cell, constraint=constraint, outs=outs)
                if node.stopped_by is not None:
                    stop = self._declare(node.stopped_by, None)
                    self._program.derive(Derived(self._program, stop, (cell,), cell.what_stopped))
            case Select(value=value):
                self._queue(branch, node, cell=self._declare(value, branch.id))
            case _:
                self._queue(branch, node)

    def _take_score(self, node: Score) -> None:
        branch, cell, text = self._growing(node.branch), self._declare(node.value, None), node.text
        if isinstance(text, ValueRef):
            self._queue(branch, node, cell=cell, needs=(self._value(text.value),))
        else:
            self._queue(branch, node, cell=cell, text=self._text(text))

    def _take_root(self, node: Root) -> None:
        program = self._program
        served = program.setting.ready.model
        if node.model is not None and node.model != served:
            raise ModelError(
                f"node {self._ordinal}: model {node.model!r} is not served here; "
                f"the one that is, is {served!r}"
            )
        saved: Saved | None = None
        if node.session is not None:
            tenant, now = program.options.tenant, program.streams_table.now
            saved = program.sessions.get(tenant, node.session, now)
        self._open_root(node.branch, saved)

    def _take_fork(self, node: Fork) -> None:
        parent = self._growing(node.branch)
        self._program.charge_forks(len(node.children))
        children = tuple(self._new_branch(child_id, parent) for child_id in node.children)
        self._queue(parent, node, children=children)

    def _take_join(self, node: Join) -> None:
        branch = self._growing(node.branch)
        if len(set(node.children)) < len(node.children):
            self._refuse(f"the children {node.children!r} of a join are not all different")
        shares = []
        for child_id in node.children:
            child = self._branch(child_id)
            if child.origin is not branch or len(child.step) > 1:
                self._refuse(f"branch {child_id} is joined into {branch.id}, not its parent")
            share = Share(Cell(self._ordinal, child_id))
            shares.append(share)
            self._queue(child, share, cell=share.cell)
        needs = tuple(share.cell for share in shares)
        self._queue(branch, node, needs=needs, shares=tuple(shares))

    def _take_elect(self, node: Elect) -> None:
        candidates = [self._growing(branch_id) for branch_id in node.candidates]
        keys = [self._value(value) for value in node.keys]
        check_elect(node, candidates, self._refuse)
        self._program.charge_forks(len(node.children))
        first = candidates[0]
        step = ELECTED + first.num_elected  # nothing that depends on who is chosen
        first.num_elected += 1
        children = tuple(
            self._new_branch(child_id, first, (step, rank))
            for rank, child_id in enumerate(node.children)
        )
        order = self._declare(node.order, None)
        election = Election(self._program, node.by, keys, children, order)
        election.open(candidates)
        for stance in election.stances:
            self._queue(stance.candidate, stance)

    def _take_call(self, node: Call) -> None:
        if node.expect_s is not None and not node.expect_s >= 0:
            self._refuse(f"expect_s must be a number of seconds, got {node.expect_s!r}")
        args = tuple(map(self._operand, node.args))
        # The failure of a call is that of its value alone: the branch's text does not need it.
        self._queue(
            self._growing(node.branch), node, cell=self._declare(node.value, None), args=args
        )

    def _operand(self, arg: Operand) -> Cell | Ready:
        return self._value(arg.value) if isinstance(arg, ValueRef) else literal(arg)

    def _take_recall(self, node: Recall) -> None:
        branch = self._branch(node.branch)
        cell = self._declare(node.value, None)
        if branch.session is None:
            self._refuse(f"branch {node.branch} was not opened from a session")
        try:
            self._program.resolve(cell, branch.session.recall(node))
        except UsageError as error:
            self._program.resolve(cell, Failure.of(error, self._ordinal))

    def _take_let(self, node: Let) -> None:
        program = self._program
        args = [self._operand(arg) for arg in node.args]
        cell = self._declare(node.value, None)
        if node.op == "pick":
            program.derive(Pick(program, cell, args))
            return

        def compute() -> Ready:
            values = [arg.copied if isinstance(arg, Cell) else arg for arg in args]
            there = [value for value in values if isinstance(value, Ready)]
            return run_let(node.op, there, program.charge)

        needs = [arg for arg in args if isinstance(arg, Cell)]
        program.derive(Derived(program, cell, needs, compute))

    # Control flow --------------------------------------------------------------------------------

    def _take_flow(self, node: Switch | Loop | ForkOver | Stop) -> None:
        branch = self._growing(node.branch)
        placed, scope = self._placed, self._scope
        if isinstance(node, Stop):
            if scope.loop is None:
                self._refuse("a Stop stands in no Loop")
            self._queue(branch, StopStep(scope.loop))
            return
        needs: tuple[Cell, ...] = ()
        step: Step
        match node:
            case Switch(on=on):
                needs = (self._value(on),)
                step = SwitchStep(node, placed, needs[0], scope, self._take_inner)
            case Loop(over=over):
                needs = () if over is None else (self._value(over),)
                run = LoopRun(node, placed, scope, self._take_inner)
                step = LoopStep(run, needs[0] if needs else None)
            case ForkOver(over=over):
                needs = (self._value(over),)
                step = ForkOverStep(node, placed, needs[0], scope, self._take_inner)
        outs = tuple(self._declare(out.value, None) for out in node.outs)
        self._check_outs(node)
        self._queue(branch, step, needs=needs, outs=outs)

    def _check_outs(self, node: Switch | Loop | ForkOver) -> None:
        num_sources = len(node.cases) if isinstance(node, Switch) else 1
        for out in node.outs:
            if len(out.sources) != num_sources:
                self._refuse(f"value {out.value} has {len(out.sources)} sources, not {num_sources}")

    def _take_inner(self, placed: Placed, scope: Scope) -> None:
        _take(self._program, self._tables, placed, scope)

    # References ----------------------------------------------------------------------------------

    def _branch(self, branch_id: int) -> Branch:
        branch = self._scope.branches.get(branch_id)
        if branch is None and branch_id == 0 and not self._scope.is_inner:  # needs no Root
            branch = self._open_root(0)
        if branch is None:
            self._refuse(f"branch {branch_id} is not known")
        return branch

    def _growing(self, branch_id: int) -> Branch:
        branch = self._branch(branch_id)
        if branch.is_dropped and not self._scope.is_inner:
            self._refuse(f"branch {branch_id} was dropped and cannot grow")
        return branch

    def _open_root(self, branch_id: int, saved: Saved | None = None) -> Branch:
        branch = self._new_branch(branch_id, None, (self._program.num_roots,))
        self._program.num_roots += 1
        if saved is None:
            branch.open_as_root()
        else:
            begin_from(branch, saved)
        return branch

    def _new_branch(
        self, branch_id: int, origin: Branch | None, step: tuple[int, ...] = ()
    ) -> Branch:
        known = self._scope.branches
        if branch_id in known:
            self._refuse(f"branch {branch_id} exists already")
        branch = known[branch_id] = Branch(self._program, branch_id, origin, step)
        if self._scope.is_inner:
            self._program.inner_branches.append(branch)
        return branch

    def _value(self, value: int) -> Cell:
        cell = self._scope.cell(value)
        if cell is None:
            self._refuse(f"value {value} is not known")
        return cell

    def _declare(self, value: int, branch: int | None) -> Cell:
        if value in self._scope.cells:
            self._refuse(f"value {value} exists already")
        return self._program.declare(self._scope, value, self._ordinal, branch)

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
            Entry(self._ordinal, node, cell, needs, text, constraint, children, shares, args, outs)
        )
        agenda = self._program.agenda
        if not agenda or agenda[-1] is not branch:
            agenda.append(branch)

    def _refuse(self, why: str) -> NoReturn:
        raise UsageError(f"node {self._ordinal}: {why}")
