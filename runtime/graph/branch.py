"""A branch: one text that grows, node by node, in the order of its recording.

Holds only where a node appends a value that is not there yet; what the engine produces on this
branch itself is waited for by nobody. What a node *does* is interpret's matter, what the engine is
sent the outlet's; this module decides when, and who falls with a failure.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from furcate.protocol.graph import Call
from furcate.protocol.message import Failed

from .elect import Stance
from .interpret import interpret
from .outlet import Base, Outlet
from .roles import Roles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .calls import Errand
    from .cell import Cell, Failure
    from .content import Piece
    from .elect import Election
    from .entry import Entry
    from .mark import OpenMark
    from .program import Program
    from .sessions import Saved
    from .stream import Stream
    from .tail import ForkPoint

__all__ = ["Branch", "Place"]

# A failure with one of these codes is what every later value of the branch gets; any other has not
# been reported yet and is the first one's own.
SHARED_CODES = ("upstream", "cancelled")


@dataclass(frozen=True, slots=True)
class Child:
    branch: Branch
    point: ForkPoint


@dataclass(frozen=True, slots=True)
class Place:
    """Where a branch stands: what a child that begins there inherits."""

    point: ForkPoint
    num_pieces: int
    roles: Roles
    last_call: Cell | None


class Branch:
    """`origin` is the branch that this one is forked from, or the first that it is elected from;
    `step` its index among all children that one ever forked, from its birth."""

    def __init__(
        self,
        program: Program,
        branch_id: int,
        origin: Branch | None = None,
        step: tuple[int, ...] = (),
    ) -> None:
        self.program = program
        self.id = branch_id
        self.origin = origin
        self.step = step
        self.parent: Branch | None = None  # of a child, from its birth
        self.outlet = Outlet(program, self)
        self.pieces: list[Piece] = []  # appended since the birth
        self.roles = Roles()
        self.start_roles = self.roles
        self.queue: deque[Entry] = deque()
        self.children: list[Child] = []
        self.session: Saved | None = None  # that it was opened from
        self.num_forked = 0  # in the order of the births: loops may come before
        self.num_elected = 0
        self.num_draws = 0  # Gens and Selects so far
        self.last_call: Cell | None = None
        self.marks: dict[int, OpenMark] = {}  # by value
        self.errands: dict[Errand, None] = {}
        self.elections: list[Election] = []  # undecided ones that it stands in
        self.failure: Failure | None = None
        self.is_dropped = False
        self._is_born = False
        self._num_inherited = 0
        self._awaited: Cell | None = None

    # Life ----------------------------------------------------------------------------------------

    def open_as_root(self) -> None:
        rewrites = self.program.options.template == "append"
        self.roles = self.start_roles = Roles(rewrites=rewrites)
        self._is_born = True

    def bear(self, children: tuple[Branch, ...]) -> None:
        """Forks here."""
        place = self.here()
        for child in children:
            child.step = (self.num_forked,)
            self.num_forked += 1
            self.bear_at(place, child)

    def here(self) -> Place:
        """Ends the text run, as a fork does."""
        point = self.outlet.add_point()
        return Place(point, len(self.pieces), self.roles, self.last_call)

    def bear_at(self, place: Place, child: Branch) -> None:
        child.parent = self
        child.outlet.begin_at(Base(self.outlet, place.point))
        child.roles = child.start_roles = place.roles
        child.last_call = place.last_call
        child._num_inherited = place.num_pieces
        child._is_born = True
        child.failure = child.failure or self.failure
        self.children.append(Child(child, place.point))
        self.program.agenda.append(child)

    def be_stillborn(self, failure: Failure) -> None:
        """There is nothing that this branch could begin from."""
        self.failure = self.failure or failure
        self._is_born = True
        self.program.agenda.append(self)

    @property
    def path(self) -> tuple[int, ...]:
        """The steps from the root."""
        steps = [self.step, *(ancestor.step for ancestor in self.ancestors())]
        return tuple(index for step in reversed(steps) for index in step)

    def ancestors(self) -> Iterator[Branch]:
        origin = self.origin
        while origin is not None:
            yield origin
            origin = origin.origin

    def history(self) -> list[Piece]:
        """Everything that the branch says up to here, what it inherited included."""
        parts = [self.pieces]
        branch = self
        while branch.parent is not None:
            parts.append(branch.parent.pieces[: branch._num_inherited])
            branch = branch.parent
        return [piece for part in reversed(parts) for piece in part]

    def sources(self) -> Iterator[Branch]:
        """The ancestors whose streams a stream opened here would begin from."""
        branch = self
        while branch.parent is not None and branch.outlet.base is not None:
            point, branch = branch.outlet.base.point, branch.parent
            yield branch
            if branch.outlet.stream is not None and point.nodes != 0:
                return

    @property
    def is_over(self) -> bool:
        """Nothing more will ever be asked of the engine here."""
        can_grow = self.elections or not (self.is_dropped or self.failure or self.program.is_done)
        return self._is_born and not self.queue and not can_grow

    # Progress ------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Goes through the queue as far as it can."""
        if not self._is_born:
            return
        while self.queue:
            entry = self.queue[0]
            if self.failure is None and self._awaits(entry):
                return
            self.queue.popleft()
            if self.failure is None:
                interpret(self, entry)
            else:
                self._skip(entry)
        if self.is_over:
            self.program.streams_changed = True

    def _awaits(self, entry: Entry) -> bool:
        if not entry.needs:
            return False
        missing = next((need for need in entry.needs if need.outcome is None), None)
        if missing is not None and missing is not self._awaited:
            missing.waiters.append(self)
            self._awaited = missing
        return missing is not None

    # Failure -------------------------------------------------------------------------------------

    def fail(self, entry: Entry, failure: Failure) -> None:
        """The node of this entry fails; what follows here depends on it, what came before not."""
        if entry.cell is not None:
            self.program.resolve(entry.cell, failure)
        else:
            self.program.emit(
                Failed(
                    self.program.id,
                    entry.ordinal,
                    self.id,
                    None,
                    failure.code,
                    failure.message,
                    failure.pointer,
                )
            )
        self.failure = failure.upstream()
        self._fail_outs(entry)

    def fail_from(self, stream: Stream, node: int, failure: Failure) -> None:
        """The engine could not do a node of the branch's stream: children that branched off before
        it are unharmed."""
        todo: list[tuple[Branch, int, Failure]] = [(self, node, failure)]
        while todo:
            branch, place, cause = todo.pop()
            seen = branch._fail_tasks(max(place, 0), cause)
            branch.failure = branch.failure or seen
            branch.program.agenda.append(branch)
            for child in branch.children:
                if child.point.nodes is None or child.point.nodes > place:
                    todo.append((child.branch, -1, seen))

    def cancel(self, failure: Failure) -> None:
        """Ends the branch and all that was forked off it."""
        todo = [self]
        while todo:
            branch = todo.pop()
            branch.failure = failure
            for errand in list(branch.errands):
                errand.cancel(failure)
            stream = branch.outlet.stream
            if stream is not None:
                for node in stream.nodes:
                    if node.task is not None:
                        node.task.cancel(failure)
                branch.program.streams_table.cancel(stream)
            branch.program.agenda.append(branch)
            todo += [child.branch for child in branch.children]
            todo += [child for entry in branch.queue for child in entry.children]

    def _fail_tasks(self, place: int, failure: Failure) -> Failure:
        """Fails what waits for the stream from there on; the failure as later nodes see it."""
        nodes = self.outlet.stream.nodes[place:] if self.outlet.stream else []
        for node in nodes:
            if node.task is not None and node.ids is None:
                failure = _blame(failure, node.ordinal)
                node.task.fail(failure)
                failure = _as_seen_later(failure)
        return failure

    def _skip(self, entry: Entry) -> None:
        """An entry behind the failure. A call does not depend on the branch, whose failure may come
        at any time: it is made."""
        assert self.failure is not None
        if isinstance(entry.node, Call) and self.failure.code != "cancelled":
            interpret(self, entry)
            return
        if entry.cell is not None and entry.cell.value is not None:
            self.program.resolve(entry.cell, _blame(self.failure, entry.ordinal))
            self.failure = _as_seen_later(self.failure)
        elif entry.cell is not None:
            self.program.resolve(entry.cell, self.failure.upstream())
        self._fail_outs(entry)
        if entry.children:
            self.bear(entry.children)
        if isinstance(entry.node, Stance):
            entry.node.arrive()

    def _fail_outs(self, entry: Entry) -> None:
        for out in entry.outs:
            assert self.failure is not None
            self.program.resolve(out, _blame(self.failure, entry.ordinal))
            self.failure = _as_seen_later(self.failure)


def _blame(failure: Failure, ordinal: int) -> Failure:
    return failure if failure.code in SHARED_CODES else replace(failure, node=ordinal)


def _as_seen_later(failure: Failure) -> Failure:
    return failure if failure.code in SHARED_CODES else failure.upstream()
