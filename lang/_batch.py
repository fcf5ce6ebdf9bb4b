"""`run_batch`: one program over many items.

The caller's thread records item after item and sends them in chunks. The first body that waits for
a value sends everything recorded so far and lets a bounded number of threads go on with the items
that are left, while it waits. Every body runs exactly once, and a thread that waits, waits for the
backend alone: with a single thread nothing can block anything else. Nobody records far ahead of the
results that were handed out, so that a batch of any length needs the memory of some.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Literal

from furcate.errors import Cancelled, UsageError

from ._default import backend_or_default
from ._loops import run_coroutine
from ._numbers import is_integer
from ._run import Call, execute, execute_async, finish, finish_async, open_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._options import RunOptions
    from ._program import Program
    from ._slot import Slot
    from ._state import ProgramState
    from .backend.session import Session

__all__ = ["Batch", "OnError", "num_threads_of", "run_async_batch"]

OnError = Literal["raise", "return"]

_CHUNK = 256  # programs in one message
_CHUNK_CHARS = 8 * 2**20  # of text in one message; a message has a limit of its own
_WINDOW = 1024  # items that are begun and not handed out
_CHECK_S = 0.5  # how often the time limits of programs that nobody waits for are looked at
_JOIN_S = 5.0  # how long a cancelled body may take to notice
_MAX_ASYNC = 256  # async programs at a time


def num_threads_of(given: int | str | None) -> int:
    """How many bodies may wait at a time, the caller's thread included."""
    if given is None or given == "auto":
        return max(64, (os.cpu_count() or 1) * 16)
    if not is_integer(given) or given < 1:
        raise UsageError(f"num_threads must be 'auto' or an integer from 1 on, got {given!r}")
    return given


@dataclass(slots=True, eq=False)
class _Item:
    """Filled by the thread that has begun it."""

    state: ProgramState | None = None
    refusal: Exception | None = None  # why there is no state
    ended: bool = False  # the body has

    def has_ended(self) -> bool:
        return self.ended


class Batch:
    """The work of one run_batch; `results` drives it and is iterated once."""

    def __init__(
        self, calls: Sequence[Call], options: RunOptions, num_threads: int, on_error: OnError
    ) -> None:
        self._calls = calls
        self._begun: dict[int, _Item] = {}  # and not handed out, by index
        self._options = options.with_seed()  # asking the system for each takes long
        self._session: Session = backend_or_default(options.backend)
        self._num_threads = num_threads
        self._on_error = on_error
        self._next = 0
        self._end = 0  # of the items that may be begun by now
        self._stopped = False
        self._over: SimpleQueue[int] | None = None  # items in the order in which they end
        self._unsent: list[Program] = []
        self._unsent_chars = 0
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()

    def results(self) -> Iterator[ProgramState]:
        """The states in the order of the items, each once it and those before it are there."""
        try:
            for index in range(len(self._calls)):
                self._record_ahead(index)
                with self._changed:
                    self._changed.wait_for(self._begun[index].has_ended)
                yield self._result(index)
        finally:
            self._stop()

    def results_as_finished(self) -> Iterator[ProgramState]:
        """The states in the order in which their programs end."""
        self._over = SimpleQueue()
        try:
            for num_given in range(len(self._calls)):
                self._record_ahead(num_given)
                yield self._result(self._next_over(self._over))
        finally:
            self._stop()

    def _next_over(self, over: SimpleQueue[int]) -> int:
        while True:
            try:
                return over.get(timeout=None if self._options.timeout_s is None else _CHECK_S)
            except Empty:
                for state in self._states():
                    state._program.results.check_deadline()

    def _states(self) -> list[ProgramState]:
        with self._changed:
            return [item.state for item in self._begun.values() if item.state is not None]

    def _result(self, index: int) -> ProgramState:
        with self._changed:
            item = self._begun.pop(
                index
            )  # its state lives as long as the caller wants from here on
        state = item.state
        if state is None:
            assert item.refusal is not None
            raise item.refusal
        program = state._program
        try:
            if program.body_error is not None:
                raise program.body_error
            finish(state)
        except Exception:
            if self._on_error == "raise":
                raise
        finally:
            program.before_wait = None
        return state

    # Recording -----------------------------------------------------------------------------------

    def _record_ahead(self, num_given: int) -> None:
        """Records what the window has room for, if that is a chunk or nothing else is begun."""
        end = min(num_given + _WINDOW, len(self._calls))
        with self._changed:
            self._end = end
            self._changed.notify_all()
        if self._next > num_given and end - self._next < _CHUNK and end < len(self._calls):
            return
        while self._record_one():
            if len(self._unsent) >= _CHUNK or self._unsent_chars >= _CHUNK_CHARS or self._threads:
                self._send()
        self._send()

    def _record_one(self) -> bool:
        """Whether there was an item that may be begun; its body has then run."""
        with self._changed:
            if self._stopped or self._next >= self._end:
                return False
            index, self._next = self._next, self._next + 1
            item = self._begun[index] = _Item()
        call = self._calls[index]
        try:
            state = item.state = open_state(
                call, self._options, sink=self._session, index=index, lazy=True
            )
            state._program.before_wait = self._before_wait
            execute(state, call)
            with self._changed:
                self._unsent.append(state._program)
                self._unsent_chars += state._program.recording.pending_chars
        except Exception as error:
            # A body's own error is kept in its program until its turn in `results`.
            item.refusal = error
        finally:
            with self._changed:
                item.ended = True
                self._changed.notify_all()
            self._tell_the_end(index, item)
        return True

    def _tell_the_end(self, index: int, item: _Item) -> None:
        if self._over is None:
            return
        if item.state is None:
            self._over.put(index)
        else:
            item.state._program.results.when_over(partial(self._over.put, index))

    def _send(self, *more: Program) -> None:
        """One message for every program whose body has ended unsent, and for `more`."""
        with self._changed:
            programs = [*self._unsent, *more]
            self._unsent.clear()
            self._unsent_chars = 0
        for program in programs:
            program.results.start_clock()
        self._session.flush(programs)

    # Bodies that wait ----------------------------------------------------------------------------

    def _before_wait(self, program: Program, slot: Slot | None) -> None:
        """In the thread of a body, or of `finish`: nothing recorded may stay unsent now."""
        self._send(program)
        if slot is not None and not program.recording.done:
            self._start_threads()

    def _start_threads(self) -> None:
        with self._changed:
            if self._threads or self._stopped:
                return
            count = min(self._num_threads - 1, len(self._calls) - self._next)
            for number in range(count):
                context = contextvars.copy_context()
                thread = threading.Thread(
                    target=context.run,
                    args=(self._work,),
                    name=f"furcate-batch-{number}",
                    daemon=True,
                )
                self._threads.append(thread)
        for thread in tuple(self._threads):
            thread.start()

    def _work(self) -> None:
        while self._may_go_on():
            if self._record_one():
                self._send()

    def _may_go_on(self) -> bool:
        """Waits until an item may be begun; False where none will be."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopped or self._next < self._end or self._all_begun
            )
            return not (self._stopped or self._all_begun)

    @property
    def _all_begun(self) -> bool:
        return self._next >= len(self._calls)

    def _stop(self) -> None:
        """Nothing new is begun; what still runs is cancelled, and the threads end."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for state in self._states():
            if not state._program.results.over:
                state._program.cancel(Cancelled("the batch that this program belongs to has ended"))
        for thread in tuple(self._threads):
            if thread.ident is not None:
                thread.join(_JOIN_S)


def run_async_batch(
    calls: Sequence[Call], options: RunOptions, on_error: OnError, in_order: bool
) -> list[ProgramState]:
    """Async programs need no threads: they are tasks of one event loop. The states, when all are
    there, in the order of the items or in that of their ends."""
    finished: list[ProgramState] = []
    limit = asyncio.Semaphore(_MAX_ASYNC)

    async def run_one(index: int, call: Call) -> ProgramState:
        async with limit:
            state = open_state(call, options, index=index)
            try:
                await execute_async(state, call)
                await finish_async(state)
            except Exception:
                if on_error == "raise":
                    raise
            finished.append(state)
            return state

    async def run_all() -> list[ProgramState]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run_one(i, call)) for i, call in enumerate(calls)]
        return [task.result() for task in tasks] if in_order else finished

    try:
        return run_coroutine(run_all)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
