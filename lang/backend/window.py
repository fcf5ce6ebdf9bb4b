"""Which programs may be sent: those that the other side has room for, in the order in which they
were to be.

Counts as the other side does, so that it never has to refuse one. Knows neither channels nor what
is in a program; may be used from any thread.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Literal

from furcate.protocol.graph import Text
from furcate.protocol.message import PROGRAM_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.lang._program import Program
    from furcate.lang._recording import Taken
    from furcate.protocol.message import Welcome

__all__ = ["Window"]

# Programs that are let go together: a message has a limit of its own.
CHUNK = 256
CHUNK_CHARS = 8 * 2**20


class _Waiting:
    """A program that is not sent yet, and what is to be cancelled in it once it is."""

    def __init__(self, program: Program) -> None:
        self.program = weakref.ref(program)
        self.cancelled: list[int] = []


class Window:
    """A program that waits for room goes on recording; what it records is sent at once when there
    is some. Programs are let go beyond the limits where all that run wait for this side: else those
    might wait for each other. The other side then may refuse one, which is better than to hang."""

    def __init__(self, welcome: Welcome) -> None:
        self._max_programs = welcome.max_programs
        self._max_bytes = welcome.max_program_bytes
        self._lock = threading.Lock()
        self._known: set[int] = set()  # were sent and not released
        self._running: dict[int, int] = {}  # bytes by program
        self._num_bytes = 0
        self._able: set[int] = set()  # of those that run: they end without more from here
        self._waiting: dict[int, _Waiting] = {}

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def admit(self, programs: Sequence[Program]) -> list[Program]:
        """Those of the programs that may be sent now; the others wait."""
        with self._lock:
            return [program for program in programs if self._may_go(program)]

    @property
    def is_ready(self) -> bool:
        """Whether the first that waits need not wait any more."""
        if not self._waiting:
            return False
        with self._lock:
            return bool(self._waiting) and self._first_may_go() is not False

    def next_admitted(self) -> list[tuple[Program, list[int]]]:
        """Programs that have waited and may be sent now, with branches to cancel behind them."""
        found: list[tuple[Program, list[int]]] = []
        with self._lock:
            num_chars = 0
            while self._waiting and len(found) < CHUNK and num_chars < CHUNK_CHARS:
                program = self._first_may_go()
                if program is False:
                    break
                waiting = self._waiting.pop(next(iter(self._waiting)))
                if program is not None:
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
            waiting = self._waiting.get(number)
            if waiting is None:
                return False
            if branch is None:
                del self._waiting[number]
            else:
                waiting.cancelled.append(branch)
            return True

    def forget(self, numbers: Sequence[int]) -> None:
        """Nobody holds these programs any more."""
        with self._lock:
            for number in numbers:
                self._known.discard(number)
                self._waiting.pop(number, None)
                self._end(number)

    def _first_may_go(self) -> Program | Literal[False] | None:
        """The first that waits, if there is room for it; None if nobody wants it any more."""
        program = next(iter(self._waiting.values())).program()
        if program is None or program.results.loss is not None:
            return None
        return program if self._has_room(program) else False

    def _may_go(self, program: Program) -> bool:
        if program.id in self._known:
            return True
        if program.id in self._waiting or program.results.loss is not None:
            return False
        if self._waiting or not self._has_room(program):
            self._waiting[program.id] = _Waiting(program)
            return False
        self._begin(program)
        return True

    def _has_room(self, program: Program) -> bool:
        if not self._able:
            return True
        if self._max_programs is not None and len(self._running) >= self._max_programs:
            return False
        size = PROGRAM_BYTES + program.recording.pending_chars
        return self._max_bytes is None or self._num_bytes + size <= self._max_bytes

    def _begin(self, program: Program) -> None:
        self._known.add(program.id)
        self._running[program.id] = PROGRAM_BYTES
        self._num_bytes += PROGRAM_BYTES
        if program.recording.done:
            self._able.add(program.id)

    def _end(self, number: int) -> None:
        self._num_bytes -= self._running.pop(number, 0)
        self._able.discard(number)
