"""One run of a program: its recording, its results and the way between them.

Branches and values are numbered here. What a program is made of (expressions, states) is not known
here; neither is what carries it (a Sink).
"""

from __future__ import annotations

import re
import threading
import time
import weakref
from typing import TYPE_CHECKING, Protocol

from furcate.errors import (
    Cancelled,
    ForcedInRegion,
    FurcateError,
    ProgramError,
    Unset,
    UpstreamFailed,
    UsageError,
    from_wire,
)
from furcate.protocol.message import Answer, Event, Failed, Finished, Invoke, Options

from ._body import in_body
from ._callables import Callables, Invocation
from ._family import Family
from ._location import caller_location
from ._loops import running_loop
from ._recording import Recorded, Recording
from ._results import Results
from ._slot import Failure, Slot

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from furcate.protocol.constraint import Constraint
    from furcate.protocol.graph import Node

    from ._enclosure import Enclosure
    from ._output import Output
    from ._region import Region
    from ._sampling import Keywords

__all__ = ["Program", "Sink", "program_error"]

# How the runtime, which knows numbers only, names the node at the root of an upstream failure.
_NEEDED = re.compile(r"^needs node (\d+): [a-z_]+: ")

_FLUSH_NODES = 64
_FLUSH_CHARS = 32_768
_FLUSH_AFTER_S = 0.005


class Sink(Protocol):
    """Where programs are sent: a Session, or the sketch that explains them."""

    def register(self, program: Program) -> int:
        """Gives the program its id; from then on its events reach it."""
        ...

    def flush(self, programs: Sequence[Program]) -> None:
        """Sends what the programs have recorded, in one message."""
        ...

    def cancel(self, program: Program, branch: int | None = None) -> None:
        """Ends the program, or one of its branches, on the other side."""
        ...

    def perform(self, invocation: Invocation, callables: Callables) -> None:
        """Runs a call of one of the program's functions, on another thread."""
        ...

    def answer(self, answer: Answer) -> None:
        """Sends what has come of a call."""
        ...


class Program:
    """`before_wait`, where one is set, takes the place of sending the recording before a wait; it
    is called with the program and with what is to be waited for.

    Holds no state and no branch, so that a program ends when the last of those is dropped.
    """

    def __init__(
        self,
        sink: Sink,
        options: Options,
        *,
        sampling: Keywords | None = None,
        name: str = "program",
        lazy: bool = False,
    ) -> None:
        self.sink = sink
        self.name = name
        self.index = 0  # among the items of a batch
        self.seed = options.seed
        self.streams = options.stream
        self.sampling: Keywords = sampling if sampling is not None else {}
        self.recording = Recording(options)
        self.results = Results(options.timeout_s)
        self.callables = Callables()
        self.region: Region | None = None  # the innermost body that is being recorded
        self.open_groups: list[Callable[[], None]] = []  # how each of them ends
        self.requires_graph = False  # the body may not wait
        self.joined: set[int] = set()
        self.family = Family()
        self.body_error: BaseException | None = None
        self.token = object()  # stands for this program in contexts, which must not hold it
        self.event_loop: asyncio.AbstractEventLoop | None = None  # set while an async body runs
        self.before_wait: Callable[[Program, Slot | None], None] | None = None
        self._lazy = lazy
        self._num_branches = 1
        self._numbers = threading.Lock()
        self.id = sink.register(self)

    # Recording -----------------------------------------------------------------------------------

    def new_branch(self) -> int:
        with self._numbers:
            self._num_branches += 1
            return self._num_branches - 1

    def new_slot(
        self, label: str, location: str, branch: int | None, output: Output | None = None
    ) -> Slot:
        with self._numbers:
            slot = Slot(len(self.results.slots), label, location, branch)
            slot.enclosure = self.enclosure
            if output is not None:
                slot.output = output
            self.results.add(slot)
        return slot

    def record(
        self,
        node: Node,
        label: str,
        location: str,
        constraint: Constraint | None = None,
        regions: tuple[tuple[Recorded, ...], ...] = (),
    ) -> None:
        """Appends a node; sends when enough has come together, or when the first has waited."""
        recorded = Recorded(node, label, location, constraint, regions)
        if self.region is not None:
            self.region.record(recorded)
            return
        now_s = time.monotonic()
        recording = self.recording
        recording.append(recorded, now_s)
        if self.streams:
            self.results.poke()
        if self._lazy:
            return
        if (
            recording.num_pending >= _FLUSH_NODES
            or recording.pending_chars >= _FLUSH_CHARS
            or now_s - recording.first_pending_s >= _FLUSH_AFTER_S
        ):
            self.flush()

    def push(self) -> None:
        """Sends what is recorded, unless that is left to whoever has opened the program."""
        if not self._lazy and self.region is None:
            self.flush()

    def end_groups(self) -> None:
        """Records what is still open, as the last act of the body."""
        for end in list(self.open_groups):
            end()

    def close(self) -> None:
        """The body has returned: nothing more is recorded but questions about text."""
        self.recording.close()
        self.results.expect_all()

    def flush(self) -> None:
        if self.results.loss is None:
            self.results.start_clock()
            self.sink.flush([self])

    def prepare_wait(self, slot: Slot | None = None) -> None:
        """What is waited for must have been sent."""
        self.check_may_read("the program")
        if self.before_wait is not None:
            self.before_wait(self, slot)
        else:
            self.flush()

    def cancel(self, error: FurcateError) -> None:
        """Ends the program on both sides; whoever waits gets the error."""
        self.open_groups.clear()
        if not self.results.over:
            self.results.lose(error)
            self.sink.cancel(self)

    def cancel_branch(self, branch: int) -> None:
        """Ends one branch with all that was forked off it; the rest of the program goes on."""
        self.family.cancel(branch)
        if not self.results.over:
            self.prepare_wait()  # what is not sent cannot be cancelled
            self.sink.cancel(self, branch)

    # Results -------------------------------------------------------------------------------------

    def receive(self, event: Event) -> None:
        if isinstance(event, Invoke):
            self._invoke(event)
        elif isinstance(event, Failed):
            self.results.receive(event, self._failure_of(event))
        else:
            self.results.receive(event)
            if isinstance(event, Finished):
                self.callables.close()

    def _invoke(self, event: Invoke) -> None:
        registered, reference = self.callables.find(event.function), weakref.ref(self)
        if registered is None:
            return

        def is_wanted() -> bool:
            program = reference()
            return program is not None and not program.results.over

        depth = self.callables.depth
        invocation = Invocation(event, registered, depth, is_wanted, self.sink.answer)
        self.sink.perform(invocation, self.callables)

    def _failure_of(self, event: Failed) -> Failure:
        label, location = self.recording.source(event.node)
        message = _NEEDED.sub(self._needed, event.message, count=1)
        error = from_wire(event.code, message, event.pointer)
        slots, branch = self.results.slots, event.branch
        if event.value is not None and event.value < len(slots):
            slot = slots[event.value]
            branch = slot.branch if branch is None else branch
            if isinstance(error, Unset):
                label, location = slot.label, slot.location
        error = self.callables.told.get(event.message, error)
        return Failure(label, location, branch, error)

    def _needed(self, found: re.Match[str]) -> str:
        label, location = self.recording.source(int(found.group(1)))
        return f"it needs {label} at {location}, which failed: "

    def value(self, slot: Slot) -> object:
        """Forces: sends, waits, and gives the value; ProgramError where there is none."""
        self.wait(slot)
        return self._read(slot)

    async def value_async(self, slot: Slot) -> object:
        await self.wait_async(slot)
        return self._read(slot)

    def wait(self, slot: Slot) -> None:
        self.check_may_read(slot.label, slot)
        if slot.settled:
            return
        self.check_may_block(slot.label)
        self.prepare_wait(slot)
        self.results.wait(lambda: slot.settled)

    async def wait_async(self, slot: Slot) -> None:
        self.check_may_read(slot.label, slot)
        if slot.settled:
            return
        self.prepare_wait(slot)
        await self.results.wait_async(lambda: slot.settled)

    def wait_over(self) -> None:
        """Waits for the end of the program, whatever it is."""
        results = self.results
        if not results.over:
            self.prepare_wait(None)
            results.wait(lambda: results.over)

    async def wait_over_async(self) -> None:
        results = self.results
        if not results.over:
            self.prepare_wait(None)
            await results.wait_async(lambda: results.over)

    @property
    def enclosure(self) -> Enclosure | None:
        """The body that is being recorded."""
        return None if self.region is None else self.region.enclosure

    def check_visible(self, slot: Slot) -> None:
        """Raises UsageError where a value of a body is used outside it."""
        enclosure = self.enclosure
        while enclosure is not None and enclosure is not slot.enclosure:
            enclosure = enclosure.parent
        if slot.enclosure is not enclosure:
            raise UsageError(
                f"{slot.label} of {slot.location} belongs to {slot.enclosure}, where it is another "
                f"value in each run: give it a name, and read that name outside"
            )

    def check_may_read(self, label: str, slot: Slot | None = None) -> None:
        """Raises where a value is read that cannot be there, or that must not be waited for."""
        if self.region is not None:
            raise ForcedInRegion(
                f"{label} is read at {caller_location()}, in {self.region.enclosure}, which is "
                f"recorded before it runs: use a condition such as s.ref('x').eq('yes') with "
                f"s.switch or until=, append s.ref('x'), or read it outside"
            )
        if slot is not None:
            self.check_visible(slot)
            if self.requires_graph and in_body(self):
                raise ForcedInRegion(
                    f"{label} is read at {caller_location()}, but the program is made with "
                    f"graph='require', so that it never waits: use s.ref(...), s.switch or s.loop, "
                    f"or return the Ref"
                )

    def check_may_block(self, label: str) -> None:
        """Raises where waiting would stop the event loop that the body needs to go on."""
        if self.event_loop is not None and running_loop() is self.event_loop:
            raise UsageError(
                f"{label} is read while an async program runs, where waiting would stop its event "
                f"loop: use `await s.aget(...)`, `s.atext()` or `s.amessages()`"
            )

    def _read(self, slot: Slot) -> object:
        failure = self.failure_of(slot)
        if failure is not None:
            raise self.error(failure)
        return slot.value()

    # Failures ------------------------------------------------------------------------------------

    def error(self, failure: Failure) -> BaseException:
        """What to raise where the failure is met. What failed because the body raised is told by
        what the body raised."""
        if self.body_error is not None and failure.error is self.results.loss:
            return self.body_error
        return program_error(failure)

    def failure_of(self, slot: Slot) -> Failure | None:
        """Of a settled slot; parses a typed value, so that one without a value counts."""
        if slot.failure is None:
            try:
                slot.value()
            except FurcateError as error:
                error = error.with_traceback(None)  # its frames hold this program
                slot.failure = Failure(slot.label, slot.location, slot.branch, error)
                self.results.failures.append(slot.failure)
        return slot.failure

    def unhandled(self) -> Failure | None:
        """After the end: the first failure that the program neither joined nor read."""
        for slot in tuple(self.results.slots):
            if slot.settled:
                self.failure_of(slot)
        failures, loss = self.results.failures, self.results.loss
        if loss is not None:
            lost = [f for f in failures if f.error.code == loss.code]
            return lost[0] if lost else Failure(self.name, "", None, loss)
        handled = self.joined | {f.branch for f in failures if f.observed and f.branch is not None}
        left = [f for f in failures if not f.observed and f.branch not in handled]
        left = [f for f in left if not self.family.is_given_up(f.branch)]
        # It was asked to end; or nobody has used what nothing has set.
        left = [f for f in left if not isinstance(f.error, Cancelled | Unset)]
        own = [f for f in left if not isinstance(f.error, UpstreamFailed)]
        if own:
            return own[0]
        followed = [f for f in left if f.branch is not None]
        return followed[0] if followed else None


def program_error(failure: Failure, state: object = None) -> ProgramError:
    """The error that tells the program, and marks the failure as told."""
    failure.observed = True
    where = f" at {failure.location}" if failure.location else ""
    error = ProgramError(
        f"{failure.label}{where} failed: {failure.error}",
        node=failure.label,
        location=failure.location,
        state=state,
    )
    error.__cause__ = failure.error
    return error
