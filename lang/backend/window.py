"""Which programs may be sent: those that the other side has room for, in the order in which they
were to be.

Counts as the other side does, so that it never has to refuse one. Knows neither channels nor what
is in a program; may be used from any thread.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from furcate.protocol.graph import Text
from furcate.protocol.message import INNER_ROOM, PROGRAM_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.lang._program import Program
    from furcate.lang._recording import Taken
    from furcate.protocol.message import Welcome

__all__ = ["Window"]

# Programs that are let go together: a message has a limit of its own.
CHUNK = 256
CHUNK_CHARS = 8 * 2**20
OUTER_ROOM = 1.5  # times the limits, where all that run wait for this side


class _Waiting:
    """A program that is not sent yet, and what is to be cancelled in it once it is."""

    def __init__(self, program: Program) -> None:
        self.program = weakref.ref(program)
        self.cancelled: list[int] = []


class Window:
    """A program that waits for room goes on recording; what it records is sent at once when there
    is some. So that none waits for one that waits for it, programs inside others go first and have
    room of their own, and others have some of that where all that run wait for this side. An
    inner one that could never go is let go all the same: it is refused, which is better than to
    hang."""

    def __init__(self, welcome: Welcome) -> None:
        self._max_programs = welcome.max_programs
        self._max_bytes = welcome.max_program_bytes
        self._lock = threading.Lock()
        self._known: set[int] = set()  # were sent and not released
        self._running: dict[int, int] = {}  # bytes by program
        self._num_bytes = 0
        self._able: set[int] = set()  # of those that run: they end without more from here
        self._inner: set[int] = set()  # run inside another program
        self._waiting_inner: dict[int, _Waiting] = {}
        self._waiting: dict[int, _Waiting] = {}

    @property
    def num_waiting(self) -> int:
        return len(self._waiting_inner) + len(self._waiting)

    @property
    def is_ready(self) -> bool:
        """Whether the first that waits need not wait any more."""
        if not (self._waiting_inner or self._waiting):
            return False
        with self._lock:
            return self._first() is not None

    def add_inner(self, number: int) -> None:
        """A program begins that another one waits for, or may."""
        with self._lock:
            self._inner.add(number)

    def admit(self, programs: Sequence[Program]) -> list[Program]:
        """Those of the programs that may be sent now; the others wait."""
        with self._lock:
            return [program for program in programs if self._may_go(program)]

    def next_admitted(self) -> list[tuple[Program, list[int]]]:
        """Programs that have waited and may be sent now, with branches to cancel behind them."""
        found: list[tuple[Program, list[int]]] = []
        num_chars = 0
        with self._lock:
            while len(found) < CHUNK and num_chars < CHUNK_CHARS and (first := self._first()):
                number, waiting = first
                self._queue_of(number).pop(number)
                program = waiting.program()
                if program is not None and program.results.loss is None:
                    self._begin(program)
                    found.append((program, waiting.cancelled))
                    num_chars += program.recording.pending_chars
        return found

    def sent(self, taken: Taken) -> None:
        """A delta of a program that was let go leaves."""
        texts = (item.node.text for item in taken.recorded if isinstance(item.node, Text))
        num_bytes = sum(len(text) for text in texts if isinstance(text, str))
        with self._lock:
            if taken.program in self._running:
                self._running[taken.program] += num_bytes
                self._num_bytes += num_bytes
                if taken.done:
                    self._able.add(taken.program)

    def ended(self, number: int) -> None:
        """The program runs no more."""
        with self._lock:
            self._end(number)

    def called(self, number: int) -> None:
        """The program waits for something from this side."""
        with self._lock:
            self._able.discard(number)

    def answered(self, number: int, done: bool) -> None:
        with self._lock:
            if done and number in self._running:
                self._able.add(number)

    def withdraw(self, number: int, branch: int | None) -> bool:
        """Whether the program, or a branch of it, is cancelled before it was sent."""
        with self._lock:
            queue = self._queue_of(number)
            waiting = queue.get(number)
            if waiting is None:
                return False
            if branch is None:
                del queue[number]
            else:
                waiting.cancelled.append(branch)
            return True

    def forget(self, numbers: Sequence[int]) -> None:
        """Nobody holds these programs any more."""
        with self._lock:
            for number in numbers:
                self._known.discard(number)
                self._queue_of(number).pop(number, None)
                self._inner.discard(number)
                self._end(number)

    def _first(self) -> tuple[int, _Waiting] | None:
        """The first that waits, if it may go, or if nobody wants it any more."""
        queue = self._waiting_inner or self._waiting
        if not queue:
            return None
        number, waiting = next(iter(queue.items()))
        program = waiting.program()
        if program is not None and program.results.loss is None and not self._has_room(program):
            return None
        return number, waiting

    def _queue_of(self, number: int) -> dict[int, _Waiting]:
        return self._waiting_inner if number in self._inner else self._waiting

    def _may_go(self, program: Program) -> bool:
        if program.id in self._known:
            return True
        queue = self._queue_of(program.id)
        if program.id in queue or program.results.loss is not None:
            return False
        if self._waiting_inner or queue or not self._has_room(program):
            queue[program.id] = _Waiting(program)
            return False
        self._begin(program)
        return True

    def _has_room(self, program: Program) -> bool:
        if program.id in self._inner:
            if not self._able:
                return True
            room: float = INNER_ROOM
        else:
            room = 1 if self._able else OUTER_ROOM
        if not self._running:
            return True
        if self._max_programs is not None and len(self._running) >= room * self._max_programs:
            return False
        size = PROGRAM_BYTES + program.recording.pending_chars
        return self._max_bytes is None or self._num_bytes + size <= room * self._max_bytes

    def _begin(self, program: Program) -> None:
        self._known.add(program.id)
        self._running[program.id] = PROGRAM_BYTES
        self._num_bytes += PROGRAM_BYTES
        if program.recording.done:
            self._able.add(program.id)

    def _end(self, number: int) -> None:
        self._num_bytes -= self._running.pop(number, 0)
        self._able.discard(number)
