"""One client: its two tables, its programs, and the rules of talking to it.

A request that makes no sense refuses the connection; a program that makes no sense is refused
alone. What goes wrong inside costs a program or, where it is none's, the connection. Knows no
sockets: whoever drives the front closes a refused connection.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from furcate.errors import BackendError, FurcateError, Overloaded, UsageError, WireError
from furcate.protocol.batch import unpack
from furcate.protocol.message import (
    PROTOCOL_VERSION,
    Answer,
    Ask,
    Batch,
    Bye,
    Cancel,
    Constraints,
    Finished,
    Graph,
    Hello,
    Refused,
    Release,
    Segments,
    Unpin,
    Usage,
    Welcome,
)

from .intake import take_nodes
from .program import Program
from .quota import Quota

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from furcate.protocol.message import Event, Request

    from .constraints import SharedConstraint
    from .desk import Desk

__all__ = ["Connection"]

log = logging.getLogger(__name__)


class Connection:
    def __init__(self, client: Hashable, desk: Desk) -> None:
        self.client = client
        self.segments: list[str] = []
        self.constraints: list[SharedConstraint] = []
        self.programs: dict[int, Program] = {}
        self.is_closed = False  # refused, or the client has left
        self._desk = desk
        self._is_greeted = False
        self._num_segment_chars = 0
        self._quota = Quota(desk.setting.limits)

    def receive(self, request: Request, now: float) -> None:
        if self.is_closed:
            return
        try:
            self._receive(request, now)
        except WireError as error:
            self._refuse(error.code, str(error))
        except Exception as error:
            log.exception("a request of client %r has failed inside", self.client)
            what = f"{type(request).__name__}: {type(error).__name__}: {error}"
            self._refuse(BackendError.code, f"the server failed on a request, {what}")

    def close(self) -> None:
        """Cancels all programs and gives back what the connection holds; callable twice."""
        self.is_closed = True
        for program in self.programs.values():
            self._guarded(program, program.release)
        for shared in self.constraints:
            self._desk.constraints.release(shared)
        self.programs.clear()
        self.constraints.clear()
        self.segments.clear()

    def overload(self, programs: set[int]) -> None:
        """The client does not read: what runs ends, and what was to be told of `programs` is
        lost."""
        why = "the client does not read what comes of its programs, and too much is held for it"
        running = {key: each for key, each in self.programs.items() if not each.is_finished}
        for program_id, program in running.items():
            del self.programs[program_id]
            self._guarded(program, program.release)
            self._tell(Finished(program_id, program.usage, Overloaded.code, why))
        for program_id in sorted(programs - running.keys()):
            self._tell(Finished(program_id, Usage(), Overloaded.code, why))

    def _receive(self, request: Request, now: float) -> None:
        if not self._is_greeted and not isinstance(request, Hello):
            raise WireError(f"the first request must be Hello, got {type(request).__name__}")
        match request:
            case Hello():
                self._greet(request)
            case Segments():
                self._add_segments(request)
            case Constraints():
                self._add_constraints(request)
            case Graph():
                self._take_graph(request, now)
            case Batch():
                for graph in unpack(request):
                    self._take_graph(graph, now)
            case Answer():
                self._answer(request)
            case Cancel(program=program_id, branch=branch):
                self._cancel(program_id, branch)
            case Ask():
                self._desk.ask(self.client, request)
            case Unpin(name=name, tenant=tenant):
                self._desk.sessions.pins.unpin(tenant, name)
            case Release(programs=program_ids):
                for program_id in program_ids:
                    self._quota.end(program_id)
                    if (program := self.programs.pop(program_id, None)) is not None:
                        self._guarded(program, program.release)
            case Bye():
                self.close()

    def _greet(self, hello: Hello) -> None:
        if self._is_greeted:
            raise WireError("a second Hello on one connection")
        if hello.protocol != PROTOCOL_VERSION:
            self._refuse(
                "connection",
                f"the client speaks protocol {hello.protocol!r}, this runtime {PROTOCOL_VERSION}; "
                "install the same version of furcate on both sides",
            )
            return
        self._is_greeted = True
        setting = self._desk.setting
        ready, limits = setting.ready, setting.limits
        self._tell(
            Welcome(
                PROTOCOL_VERSION,
                ready.model,
                ready.tokenizer_fingerprint,
                ready.max_context,
                limits.open_programs,
                limits.open_bytes,
            )
        )

    def _add_segments(self, request: Segments) -> None:
        self._check_first("segments", request.first, len(self.segments))
        self._num_segment_chars += sum(map(len, request.texts))
        limit = self._desk.setting.limits.segment_chars
        if self._num_segment_chars > limit:
            raise WireError(f"the segments of one connection may have {limit} characters together")
        self.segments += request.texts

    def _add_constraints(self, request: Constraints) -> None:
        self._check_first("constraints", request.first, len(self.constraints))
        limit = self._desk.setting.limits.constraints
        if len(self.constraints) + len(request.constraints) > limit:
            raise WireError(f"one connection may have {limit} constraints")
        self.constraints += map(self._desk.constraints.acquire, request.constraints)

    def _check_first(self, what: str, first: int, known: int) -> None:
        if first != known:
            raise WireError(f"{what} begin at index {first}, the table has {known}")

    def _take_graph(self, graph: Graph, now: float) -> None:
        program = self.programs.get(graph.program) or self._open_program(graph, now)
        if program is None or graph.epoch < program.next_epoch:
            return
        if program.abortion is not None:
            program.refuse_nodes(graph.nodes)
            return
        self._guarded(program, lambda: self._extend_program(program, graph))

    def _extend_program(self, program: Program, graph: Graph) -> None:
        first = program.num_taken
        try:
            _check_order(program, graph)
            self._quota.grow(graph)
            program.next_epoch += 1
            take_nodes(program, self, graph.nodes)
        except FurcateError as error:
            program.abort(error.code, str(error), rest=graph.nodes[program.num_taken - first :])
            return
        if graph.done and not program.is_done:
            program.is_done = program.streams_changed = True
        program.settle()

    def _open_program(self, graph: Graph, now: float) -> Program | None:
        desk = self._desk
        problem: tuple[str, str] | None = None
        if desk.lost is not None:
            problem = ("engine_lost", desk.lost)
        elif graph.epoch != 0:
            problem = ("usage", self._unknown(graph))
        elif graph.options is None:
            problem = ("usage", f"the first delta of program {graph.program} has no options")
        else:
            problem = self._reserve(graph)
        if problem is not None or graph.options is None:
            self._tell(Finished(graph.program, Usage(), *(problem or ())))
            return None
        options = graph.options
        deadline = None if options.timeout_s is None else now + options.timeout_s
        program = Program(
            graph.program,
            next(desk.serials),
            options,
            desk.setting,
            desk.streams,
            self._tell,
            desk.sessions,
            deadline,
        )
        self._forget_finished()
        self.programs[graph.program] = program
        if deadline is not None:
            desk.deadlines.add(deadline, program)
        return program

    def _unknown(self, graph: Graph) -> str:
        limit = self._desk.setting.limits.finished_programs
        return (
            f"program {graph.program} begins with delta {graph.epoch}, not 0; if it had finished, "
            f"it was released, or forgotten: {limit} are kept for questions about their texts"
        )

    def _forget_finished(self) -> None:
        """Of too many that have finished and are not released, the oldest."""
        limit = self._desk.setting.limits.finished_programs
        if len(self.programs) - len(self._quota) < limit:
            return
        oldest = next((key for key, each in self.programs.items() if each.is_finished), None)
        if oldest is not None:
            del self.programs[oldest]

    def _reserve(self, graph: Graph) -> tuple[str, str] | None:
        """Why there is no room for the program."""
        try:
            self._quota.open(graph)
        except Overloaded as error:
            return error.code, str(error)
        return None

    def _cancel(self, program_id: int, branch: int | None) -> None:
        program = self.programs.get(program_id)
        if program is None:
            return
        if branch is None:
            self._guarded(program, lambda: program.abort("cancelled", "the program was cancelled"))
        else:
            self._guarded(program, lambda: program.cancel_branch(branch))

    def _answer(self, answer: Answer) -> None:
        program = self.programs.get(answer.program)
        if program is not None:
            self._guarded(program, lambda: program.answer(answer))

    def _guarded(self, program: Program, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            program.crash(error)

    def _refuse(self, code: str, message: str) -> None:
        self.close()
        self._tell(Refused(code, message))

    def _tell(self, event: Event) -> None:
        if isinstance(event, Finished):
            self._quota.end(event.program)
        self._desk.outbox.tell(self.client, event)


def _check_order(program: Program, graph: Graph) -> None:
    if graph.epoch != program.next_epoch:
        raise UsageError(
            f"delta {graph.epoch} of program {program.id} arrived, "
            f"but the next one is {program.next_epoch}"
        )
    if graph.options is not None and graph.options != program.options:
        raise UsageError(f"the options of program {program.id} cannot change after its first delta")
