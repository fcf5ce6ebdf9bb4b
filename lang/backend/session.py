"""A connection with its programs: writes what they record, brings them what comes back.

Sits on any Channel. Knows nothing of expressions, states or source lines.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Literal, Self

from furcate.errors import BackendError, FurcateError, UsageError, WireError
from furcate.lang._body import is_awaited
from furcate.protocol.batch import pack
from furcate.protocol.message import (
    Answer,
    Ask,
    Cancel,
    Event,
    Finished,
    Graph,
    Info,
    Invoke,
    Release,
    Request,
    Unpin,
    Welcome,
)

from .call_pool import CallPool
from .questions import Questions
from .tables import Tables
from .window import Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from furcate.lang._callables import Callables, Invocation
    from furcate.lang._program import Program
    from furcate.lang._recording import Taken

    from .base import Channel
    from .questions import Facts

__all__ = ["Session"]

_COALESCE_S = 0.02  # finalizers come in bursts; one Release speaks for all of them


class Session:
    """A backend that programs run on: `connect(...)`, `Engine(...)` and `Mock(...)` are sessions.

    Opens the channel at once; use it as a context manager or call `close()`. Everything here may be
    called from any thread.
    """

    kind = "server"

    def __init__(self, channel: Channel) -> None:
        self.num_messages = 0  # sent after the handshake
        self._channel = channel
        self._tables = Tables()
        self._programs: dict[int, weakref.ref[Program]] = {}
        self._next_id = 0
        self._loss: FurcateError | None = None
        self._closed = False
        # The order of deltas. Reentrant: a mock's reply may run a program of its own.
        self._sending = threading.RLock()
        self._registry = threading.Lock()
        self._forgotten: SimpleQueue[int | None] = SimpleQueue()
        self._reaper: threading.Thread | None = None
        self._calls: CallPool | None = None
        self._questions = Questions()
        self.welcome: Welcome = channel.open(self._deliver, self._lose)
        self._window = Window(self.welcome)  # nothing of a program is delivered before

    @property
    def num_bytes_sent(self) -> int | None:
        """Where the channel counts them."""
        return getattr(self._channel, "num_bytes_sent", None)

    # The Sink of programs ------------------------------------------------------------------------

    def register(self, program: Program) -> int:
        """Programs are held weakly: one that nobody holds any more is released on the other
        side."""
        with self._registry:
            if self._closed:
                raise UsageError("this backend is closed: open another one")
            loss = self._loss
            number, self._next_id = self._next_id, self._next_id + 1
            self._programs[number] = weakref.ref(program)
            if self._reaper is None:
                self._reaper = _start_reaper(self)
        if is_awaited():
            self._window.add_inner(number)
        # The queue's put is safe inside a finalizer, whatever locks the thread holds.
        finalizer = weakref.finalize(program, self._forgotten.put, number)
        finalizer.atexit = False
        if loss is not None:
            program.results.lose(loss)
        return number

    def flush(self, programs: Sequence[Program]) -> None:
        """Sends what these programs have recorded, as one message; nothing if that is nothing.
        Programs that the other side has no room for wait for their turn."""
        with self._turn():
            self._flush(self._window.admit(programs))

    def _flush(self, programs: Sequence[Program]) -> None:
        taken = [
            (program, delta)
            for program in programs
            if (delta := program.recording.take(program.id)) is not None
        ]
        if not taken:
            return
        for _, delta in taken:
            self._window.sent(delta)
        try:
            self._send(self._written(taken))
        except Exception as error:  # these deltas are lost, so their programs cannot go on
            loss = error if isinstance(error, FurcateError) else WireError(str(error))
            for program, _ in taken:
                self._window.ended(program.id)
                program.results.lose(loss)
            raise

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Inside, messages leave in order."""
        try:
            with self._sending:
                yield
        finally:
            self._send_waiting()

    def _send_waiting(self) -> None:
        """Sends programs that have waited and may go. Whoever cannot, because another thread sends
        just now, leaves it to that one, which looks again when it is through."""
        while self._window.is_ready and self._sending.acquire(blocking=False):
            try:
                admitted = self._window.next_admitted()
                with suppress(Exception):  # their programs have been told
                    self._flush([program for program, _ in admitted])
                for program, branches in admitted:
                    self._send([Cancel(program.id, branch) for branch in branches])
            finally:
                self._sending.release()

    def _written(self, taken: Sequence[tuple[Program, Taken]]) -> list[Request]:
        requests, written = self._tables.write([delta for _, delta in taken])
        deltas: list[Graph] = []
        for (program, delta), nodes in zip(taken, written, strict=True):
            for _, recorded in nodes:
                program.recording.written(recorded)
            deltas.append(
                Graph(
                    delta.program,
                    delta.epoch,
                    tuple(node for node, _ in nodes),
                    delta.done,
                    delta.options,
                )
            )
        return [*requests, *pack(deltas)]

    def cancel(self, program: Program, branch: int | None = None) -> None:
        with self._turn():
            if not self._window.withdraw(program.id, branch):
                self._send([Cancel(program.id, branch)])

    def perform(self, invocation: Invocation, callables: Callables) -> None:
        """On the event loop that the function is for, else on a thread of the session."""
        loop = invocation.loop
        if loop is None:
            self._call_pool().submit(invocation)
            return
        running = invocation.run_async()
        try:
            future = asyncio.run_coroutine_threadsafe(running, loop)
        except RuntimeError:  # the loop was closed just now
            running.close()
            self._call_pool().submit(invocation)
            return
        callables.started(future)

    def _call_pool(self) -> CallPool:
        with self._registry:
            if self._calls is None:
                self._calls = CallPool()
            return self._calls

    def answer(self, answer: Answer) -> None:
        """Sends what a call has come to, unless its program is over."""
        with self._registry:
            reference = self._programs.get(answer.program)
        program = reference() if reference is not None else None
        if program is not None and not program.results.over:
            with self._turn():
                self._window.answered(program.id, program.recording.done)
                self._send([answer])

    def _send(self, requests: Sequence[Request]) -> None:
        if not requests or self._loss is not None or self._closed:
            return  # the programs have been told
        try:
            self._channel.send(requests)
            self.num_messages += 1
        except BackendError as error:
            self._lose(error)

    # What is no program's ------------------------------------------------------------------------

    def ask(self, what: Literal["info", "flush_cache"]) -> Facts:
        """The other side's facts; waits for them. Raises what has ended the connection."""
        number, future = self._questions.new()
        with self._turn():
            self._send([Ask(number, what)])
        if self._closed:
            raise UsageError("this backend is closed: open another one")
        if self._loss is not None:
            self._questions.lose(self._loss)
        return future.result()

    def unpin(self, name: str, tenant: str) -> None:
        """The KV of that pin may leave the cache; idempotent."""
        with self._turn():
            self._send([Unpin(name, tenant)])

    # From the channel ----------------------------------------------------------------------------

    def _deliver(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Info):
                self._questions.answered(event)
            number = getattr(event, "program", None)
            if isinstance(event, Finished):
                self._window.ended(event.program)
            elif isinstance(event, Invoke):
                self._window.called(event.program)
            reference = self._programs.get(number) if isinstance(number, int) else None
            program = reference() if reference is not None else None
            if program is not None:
                program.receive(event)
                if isinstance(event, Finished) and self._calls is not None:
                    self._calls.refresh()
        self._send_waiting()

    def _lose(self, error: FurcateError) -> None:
        with self._registry:
            if self._loss is None:
                self._loss = error
            references = list(self._programs.values())
        self._questions.lose(error)
        for reference in references:
            program = reference()
            if program is not None:
                program.results.lose(error)
                program.callables.close()

    # Release -------------------------------------------------------------------------------------

    def release(self, numbers: Sequence[int]) -> None:
        """Forgets these programs on both sides."""
        with self._registry:
            for number in numbers:
                self._programs.pop(number, None)
        self._window.forget(numbers)
        with self._turn():
            self._send([Release(tuple(numbers))])

    def close(self) -> None:
        """Cancels what runs and frees what the backend holds; callable twice."""
        with self._registry:
            if self._closed:
                return
        self._lose(BackendError("the backend was closed before this was read"))
        with self._registry:
            self._closed = True
            calls = self._calls
        self._forgotten.put(None)
        self._channel.close()
        if calls is not None:
            calls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.welcome.model!r})"


def _start_reaper(session: Session) -> threading.Thread:
    """One thread a session turns the deaths of programs into messages: a finalizer may run
    anywhere, also inside the channel's own code, and must not send."""
    queue = session._forgotten
    ended = weakref.finalize(session, queue.put, None)
    ended.atexit = False
    reaper = threading.Thread(
        target=_reap, args=(queue, weakref.ref(session)), name="furcate-release", daemon=True
    )
    reaper.start()
    return reaper


def _reap(queue: SimpleQueue[int | None], reference: weakref.ref[Session]) -> None:
    while (number := queue.get()) is not None:
        time.sleep(_COALESCE_S)
        numbers = [number]
        while not queue.empty():
            more = queue.get()
            if more is None:
                return
            numbers.append(more)
        session = reference()
        if session is None:
            return
        session.release(numbers)
        del session
