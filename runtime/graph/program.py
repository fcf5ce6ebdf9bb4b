"""One program: its branches, its values and its end.

Has exactly one end, told in one Finished: it is done and its streams have ended, or it was aborted
as a whole. Knows no connection tables and no other program.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from furcate.errors import CapacityError, FurcateError, WireError
from furcate.protocol.graph import (
    Call,
    Elect,
    ForkOver,
    Gen,
    Let,
    Loop,
    Mark,
    Pin,
    Recall,
    Score,
    Select,
    Switch,
    TextOf,
)
from furcate.protocol.message import Failed, Finished, Usage, Value

from .calls import Calls
from .cell import Cell, Failure, Ready
from .region import count_nodes
from .scope import Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from furcate.protocol.graph import Node
    from furcate.protocol.message import Answer, Event, Options, ValueMeta

    from .branch import Branch
    from .cell import Outcome, Waiter
    from .sessions import Sessions
    from .setting import Setting
    from .stream import Stream
    from .streams import Streams

__all__ = ["Program"]

log = logging.getLogger(__name__)

VALUED = (Gen, Select, Score, Mark, Let, TextOf, Call, Recall, Pin)


class Program:
    """`serial` is its number among all programs of the front, `id` that of its connection."""

    def __init__(
        self,
        program_id: int,
        serial: int,
        options: Options,
        setting: Setting,
        streams: Streams,
        tell: Callable[[Event], None],
        sessions: Sessions,
        deadline: float | None = None,
    ) -> None:
        self.id = program_id
        self.serial = serial
        self.options = options
        self.setting = setting
        self.streams_table = streams
        self.sessions = sessions
        self.deadline = deadline
        self.scope = Scope()
        self.inner_branches: list[Branch] = []  # of runs of regions
        self.num_nodes = 0  # those inside regions included
        self.num_taken = 0  # those outside
        self._num_region_nodes = 0
        self.num_forked = 0
        self.num_roots = 0
        self.next_epoch = 0
        self.is_done = False
        self.abortion: Failure | None = None
        self.is_finished = False
        self.usage = Usage()
        self.streams: dict[Stream, None] = {}  # open in the engine; kept by the table of streams
        self.streams_changed = False
        self.hints_changed = False
        self.agenda: deque[Waiter] = deque()
        self.calls = Calls(program_id, self.emit)
        self._pending: dict[Cell, None] = {}  # values without an outcome
        self._derived_chars = 0
        self._tell: Callable[[Event], None] | None = tell

    @property
    def branches(self) -> dict[int, Branch]:
        """Those that the client can name."""
        return self.scope.branches

    @property
    def cells(self) -> dict[int, Cell]:
        """The values that the client can name."""
        return self.scope.cells

    def all_branches(self) -> Iterator[Branch]:
        """Parents before their children."""
        yield from self.branches.values()
        yield from self.inner_branches

    @property
    def is_open(self) -> bool:
        return self.abortion is None and not self.is_finished

    @property
    def is_idle(self) -> bool:
        """It waits for nothing but its client."""
        queued = any(branch.queue for branch in self.all_branches())
        return not (self.streams or self.agenda or self.calls or self._pending or queued)

    def check(self) -> None:
        assert not self.agenda, "work left undone"
        if self.is_finished and self.abortion is None:
            assert self.is_idle, "finished with something open"
        for cell in self._pending:
            assert cell.outcome is None, "a resolved value counts as pending"

    # Values --------------------------------------------------------------------------------------

    def declare(self, scope: Scope, value: int, ordinal: int, branch: int | None) -> Cell:
        cell = Cell(ordinal, branch, value, is_inner=scope.is_inner, is_parallel=scope.is_parallel)
        scope.cells[value] = cell
        self._pending[cell] = None
        return cell

    def resolve(self, cell: Cell, outcome: Outcome, meta: ValueMeta | None = None) -> None:
        """Gives a cell its outcome and tells the client; changes nothing if it has one."""
        if cell.outcome is not None:
            return
        if isinstance(outcome, Ready) and meta is not None:
            outcome = replace(outcome, meta=meta)
        cell.outcome = outcome
        self.hints_changed = True
        self.agenda.extend(cell.waiters)
        cell.waiters.clear()
        if cell.value is None:
            return
        del self._pending[cell]
        if isinstance(outcome, Failure):
            if not cell.is_inner:
                self.emit(_failed(self.id, cell, outcome))
            elif outcome.code not in ("upstream", "cancelled") and self.abortion is None:
                self.emit(_failed(self.id, replace(cell, value=None), outcome))
        elif self.options.stream or not cell.is_inner:
            self.emit(Value(self.id, cell.value, outcome.data, outcome.meta, outcome.source))

    def derive(self, derived: Waiter) -> None:
        self.agenda.append(derived)

    def charge(self, num_chars: int) -> None:
        """Counts text that the program makes out of text."""
        limit = self.setting.limits.derived_chars
        if self._derived_chars + num_chars > limit:
            raise CapacityError(
                f"the program makes more than {limit} characters of text out of its values; "
                "join or copy less of them"
            )
        self._derived_chars += num_chars

    def charge_nodes(self, count: int) -> None:
        """Counts the nodes of a run of a region."""
        limit = self.setting.limits.region_nodes
        if self._num_region_nodes + count > limit:
            raise CapacityError(
                f"the loops and cases of a program may run {limit} nodes, these run more; lower "
                "max_iters or put less into the body"
            )
        self._num_region_nodes += count

    def charge_forks(self, count: int) -> None:
        limit = self.setting.limits.forks
        if self.num_forked + count > limit:
            raise CapacityError(
                f"a program may fork off {limit} branches, this one forks {self.num_forked + count}"
            )
        self.num_forked += count

    def emit(self, event: Event) -> None:
        if self._tell is not None:
            self._tell(event)

    # Progress ------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Does everything that can be done now. Called after whatever changed the program."""
        while self.agenda:
            self.hints_changed = True
            self.agenda.popleft().advance()
        if self.streams_changed:
            self.streams_changed = False
            self.hints_changed = True
            self._end_streams()
        if self.hints_changed:
            self.hints_changed = False
            self.streams_table.to_hint[self] = None
        is_open = self.streams or self.calls or self.is_finished
        if not is_open and (self.is_done or self.abortion):
            self._finish()

    def _end_streams(self) -> None:
        """Ends each stream that can get no more nodes and that no child will begin from."""
        needed: set[Branch] = set()
        for branch in reversed(list(self.all_branches())):  # children before their parents
            stream = branch.outlet.stream
            is_needed = branch in needed or not branch.is_over
            if stream is not None and not is_needed:
                self.streams_table.end(stream)
            elif stream is None and is_needed:
                needed.update(branch.sources())

    def _finish(self) -> None:
        self.is_finished = True
        why = self.abortion
        self.emit(
            Finished(self.id, self.usage, why.code if why else None, why.message if why else None)
        )

    # Early ends ----------------------------------------------------------------------------------

    def abort(
        self, code: str, message: str, *, rest: Sequence[Node] = (), at_once: bool = False
    ) -> None:
        """Fails what is open and cancels every stream. Finished follows when the engine has
        answered for all of them, or `at_once`. `rest` are nodes that were not taken any more.
        Changes nothing on a program that has ended."""
        if not self.is_open:
            return
        self.abortion = Failure(code, message, self.num_nodes)
        for cell in list(self._pending):
            self.resolve(cell, Failure(code, message, cell.ordinal))
        self.refuse_nodes(rest)
        for stream in list(self.streams):
            self.streams_table.cancel(stream)
        self.agenda.clear()
        self.scope = Scope()
        self.inner_branches.clear()
        self.calls.clear()
        if at_once:
            self._finish()
        self.settle()

    def crash(self, error: Exception) -> None:
        """Something went wrong that should not: it costs this program, and nobody else. Changes
        nothing on one that has finished."""
        if self.is_finished:
            return
        log.error("program %d has failed inside", self.serial, exc_info=error)
        what = str(error) if isinstance(error, FurcateError) else f"{type(error).__name__}: {error}"
        try:
            self.abort("backend", f"the server failed on this program: {what}", at_once=True)
        except Exception:
            log.exception("program %d could not be ended in order", self.serial)
        if not self.is_finished:  # no more can be expected of it, but for its end
            for stream in list(self.streams):
                self.streams_table.cancel(stream)
            self.agenda.clear()
            self._finish()

    def refuse_nodes(self, nodes: Sequence[Node]) -> None:
        """Nodes that come too late: whoever waits for their values must know."""
        assert self.abortion is not None
        for node in nodes:
            branch = node.branch if isinstance(node, (Gen, Select, TextOf)) else None
            for value in _values_of(node):
                if value not in self.cells:
                    cell = Cell(self.num_nodes, branch, value)
                    self.emit(_failed(self.id, cell, self.abortion))
            self.num_nodes += count_nodes(node)

    def answer(self, answer: Answer) -> None:
        """What the client says of a call; late ones change nothing."""
        if not self.is_open:
            return
        try:
            self.calls.answer(answer)
        except WireError as error:
            self.abort(error.code, str(error))
        self.settle()

    def cancel_branch(self, branch_id: int) -> None:
        branch = self.branches.get(branch_id)
        if branch is not None and self.is_open:
            branch.cancel(Failure("cancelled", f"branch {branch_id} was cancelled", self.num_nodes))
            self.settle()

    def release(self) -> None:
        """The client is not interested any more: nothing is told from here on."""
        self._tell = None
        self.abort("cancelled", "the program was released")


def _values_of(node: Node) -> Iterator[int]:
    """What the client knows by a number of its own."""
    if isinstance(node, VALUED) and not (isinstance(node, Mark) and node.edge == "begin"):
        yield node.value
    if isinstance(node, Gen) and node.stopped_by is not None:
        yield node.stopped_by
    if isinstance(node, Gen) and node.reasoning is not None:
        yield node.reasoning.value
    if isinstance(node, Elect):
        yield node.order
    if isinstance(node, (Switch, Loop, ForkOver)):
        yield from (out.value for out in node.outs)


def _failed(program: int, cell: Cell, failure: Failure) -> Failed:
    return Failed(
        program,
        cell.ordinal,
        cell.branch,
        cell.value,
        failure.code,
        failure.message,
        failure.pointer,
    )
