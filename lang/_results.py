"""What has come back for a program: values, failures, streamed text, the end.

Events arrive on the channel's thread, waiters wait on theirs. Knows nothing of how the program was
recorded.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from furcate.errors import DeadlineExceeded, FurcateError, WireError, from_wire
from furcate.protocol.message import Delta, Event, Failed, Finished, Usage, Value

from ._slot import Failure, Slot

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Results", "StreamEvent"]

_GRACE_S = 2.0  # how long the other side may take to report a deadline that it enforces itself


@dataclass(frozen=True, slots=True)
class SoFar:
    """The first `count` of the parts that a text comes in, and how they are read."""

    parts: list[str]
    count: int
    read: Callable[[str], object] | None


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """More text of one generation of a running program.

    `branch` is 0 for the program's own state, the forks count from 1; `var` is the variable's name
    or None; `sample` tells the texts of an `n` above 1 apart.
    """

    branch: int
    node: str
    var: str | None
    delta: str
    sample: int = 0
    so_far: SoFar | None = field(default=None, repr=False, compare=False)

    @property
    def partial(self) -> object:
        """The value with this text, as far as it has come: see `state.partial`."""
        if self.so_far is None:
            return self.delta
        text = "".join(self.so_far.parts[: self.so_far.count])
        return text if self.so_far.read is None else self.so_far.read(text)


class Results:
    """Written by `receive` and `lose` under the condition; read by any thread."""

    def __init__(self, timeout_s: float | None) -> None:
        self.slots: list[Slot] = []
        self.failures: list[Failure] = []
        self.branch_failures: dict[int, Failure] = {}
        self.stream: list[StreamEvent] = []
        self.streamed: list[Slot] = []  # whose text each of those is
        self.finished: Finished | None = None
        self.loss: FurcateError | None = None
        self._silence: FurcateError | None = None  # why no answer will come, finished or not
        self.condition = threading.Condition()
        self._expected_at_end = 0
        self._wakers: set[Callable[[], None]] = set()
        self._at_the_end: list[Callable[[], None]] = []
        self._timeout_s = timeout_s
        self._deadline_s: float | None = None

    # Writing -------------------------------------------------------------------------------------

    def add(self, slot: Slot) -> None:
        """Called by the recorder; a slot of a program that is already over fails at once."""
        with self.condition:
            self.slots.append(slot)
            error = self.loss if self.loss is not None else self._silence
            if error is not None:
                self._fail(slot, Failure(slot.label, slot.location, slot.branch, error))

    def start_clock(self) -> None:
        if self._timeout_s is not None and self._deadline_s is None:
            self._deadline_s = time.monotonic() + self._timeout_s + _GRACE_S

    def expect_all(self) -> None:
        """Nothing more is recorded: at the end of the program every slot so far must be settled."""
        with self.condition:
            self._expected_at_end = len(self.slots)

    def receive(self, event: Event, failed_node: Failure | None = None) -> None:
        """`failed_node` is what a Failed event is about."""
        with self.condition:
            match event:
                case Delta():
                    self._more_text(event)
                case Value():
                    self._settle(event)
                case Failed() if failed_node is not None:
                    self._node_failed(event, failed_node)
                case Finished():
                    self._finish(event)
                case _:
                    pass
            self._notify()

    def lose(self, error: FurcateError) -> None:
        """Nothing will come any more: everything pending fails with that error. A program that has
        finished stays as it ended; only what is asked about its text from then on fails."""
        with self.condition:
            if self.finished is None and self.loss is None:
                self.loss = error
            if self._silence is None:
                self._silence = error
                self._fail_pending(error, len(self.slots))
            self._notify()

    def poke(self) -> None:
        """Lets waiters look again."""
        with self.condition:
            self._notify()

    def _slot(self, value_id: int) -> Slot | None:
        return self.slots[value_id] if 0 <= value_id < len(self.slots) else None

    def _more_text(self, event: Delta) -> None:
        slot = self._slot(event.value)
        if slot is not None and not slot.settled:
            self._stream_text(slot, event.sample, event.text)

    def _stream_text(self, slot: Slot, sample: int, text: str) -> None:
        if text:
            slot.pieces[sample] = slot.pieces.get(sample, "") + text
            branch = slot.branch if slot.branch is not None else 0
            parts = slot.parts.setdefault(sample, [])
            parts.append(text)
            so_far = SoFar(parts, len(parts), slot.reads_so_far)
            self.stream.append(StreamEvent(branch, slot.label, slot.name, text, sample, so_far))
            self.streamed.append(slot)

    def _settle(self, event: Value) -> None:
        slot = self._slot(event.value)
        if slot is None or slot.settled:
            return
        if slot.enclosure is not None:
            self._another(slot, event)
            return
        slot.data, slot.meta = event.data, event.meta
        source = self._slot(event.source) if event.source is not None else None
        if source is not None:
            slot.read_as(source)
        try:
            texts = slot.texts()
        except WireError as error:
            self._fail(slot, Failure(slot.label, slot.location, slot.branch, error))
            return
        if slot.is_output:
            for sample, text in enumerate(texts):
                self._stream_text(slot, sample, text[len(slot.pieces.get(sample, "")) :])
        slot.settled = True

    def _another(self, slot: Slot, event: Value) -> None:
        """The value of a slot in a region, in the run that has come to it."""
        slot.data = event.data
        if slot.is_output:
            for sample, text in enumerate(slot.texts()):
                self._stream_text(slot, sample, text[len(slot.pieces.get(sample, "")) :])
        slot.pieces.clear()
        slot.parts.clear()

    def _node_failed(self, event: Failed, failure: Failure) -> None:
        self.failures.append(failure)
        if event.branch is not None:
            self.branch_failures.setdefault(event.branch, failure)
        slot = self._slot(event.value) if event.value is not None else None
        if slot is not None and not slot.settled:
            slot.failure, slot.settled = failure, True

    def _fail(self, slot: Slot, failure: Failure) -> None:
        self.failures.append(failure)
        slot.failure, slot.settled = failure, True

    def _fail_pending(self, error: FurcateError, count: int) -> None:
        for slot in self.slots[:count]:
            if not slot.settled and slot.enclosure is None:
                self._fail(slot, Failure(slot.label, slot.location, slot.branch, error))

    def _finish(self, event: Finished) -> None:
        self.finished = event
        if event.code is not None:
            self.loss = from_wire(event.code, event.message or event.code)
            self._fail_pending(self.loss, len(self.slots))
        else:
            missing = WireError("the program ended without this value")
            self._fail_pending(missing, self._expected_at_end)

    def _notify(self) -> None:
        if self._at_the_end and self.over:
            for callback in self._at_the_end:
                callback()
            self._at_the_end.clear()
        self.condition.notify_all()
        for waker in tuple(self._wakers):
            waker()

    # Waiting -------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Nothing that was recorded is still to come."""
        return self.finished is not None or self.loss is not None

    @property
    def usage(self) -> Usage:
        """Of the whole program once it is over, of the values so far before that."""
        if self.finished is not None:
            return self.finished.usage
        metas = [slot.meta for slot in tuple(self.slots) if slot.meta and not slot.is_copy]
        return sum((meta.usage for meta in metas), Usage())

    def when_over(self, callback: Callable[[], None]) -> None:
        """Calls it once: at the end of the program, on whatever thread that is, or now."""
        with self.condition:
            if not self.over:
                self._at_the_end.append(callback)
                return
        callback()

    def wait(self, ready: Callable[[], bool]) -> None:
        """Blocks until `ready()` holds; it is evaluated under the condition."""
        while True:
            with self.condition:
                if ready():
                    return
                self.condition.wait(self._remaining_s())
                if ready():
                    return
            self.check_deadline()

    async def wait_async(self, ready: Callable[[], bool]) -> None:
        """The same without blocking the event loop."""
        loop = asyncio.get_running_loop()
        while True:
            with self.condition:
                if ready():
                    return
                woken = loop.create_future()
                waker = partial(_wake, loop, woken)
                self._wakers.add(waker)
            try:
                await asyncio.wait_for(woken, self._remaining_s())
            except TimeoutError:
                self.check_deadline()
            finally:
                self._wakers.discard(waker)

    def _remaining_s(self) -> float | None:
        if self._deadline_s is None:
            return None
        return max(self._deadline_s - time.monotonic(), 0.0)

    def check_deadline(self) -> None:
        """Ends the program where its time is over and the other side has not said so."""
        if self._deadline_s is not None and time.monotonic() >= self._deadline_s:
            self.lose(DeadlineExceeded(f"the program ran past its timeout of {self._timeout_s} s"))


def _wake(loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> None:
    def set_result() -> None:
        if not woken.done():
            woken.set_result(None)

    try:
        loop.call_soon_threadsafe(set_result)
    except RuntimeError:  # the loop is closed: nobody waits any more
        woken.cancel()
