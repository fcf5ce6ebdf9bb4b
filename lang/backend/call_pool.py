"""Threads that call the functions of programs.

At most `size` of them for each depth: a function may run a program of its own whose functions are
called one depth deeper, so nobody here ever waits for a thread that waits for it. A thread whose
program has ended while the function runs does not count any more. Knows neither programs nor
messages.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CallPool", "Job"]

_IDLE_S = 10.0  # a thread without work ends


class Job(Protocol):
    @property
    def depth(self) -> int: ...

    @property
    def is_wanted(self) -> Callable[[], bool]: ...

    def run(self) -> None:
        """Raises nothing."""
        ...


@dataclass(eq=False, slots=True)
class _Level:
    """The threads of one depth. `running`: what each counted thread is at."""

    changed: threading.Condition
    jobs: deque[Job] = field(default_factory=deque)
    running: dict[threading.Thread, Job | None] = field(default_factory=dict)

    @property
    def num_idle(self) -> int:
        return sum(job is None for job in self.running.values())


class CallPool:
    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._levels: dict[int, _Level] = {}
        self._lock = threading.Lock()
        self._is_closed = False

    def submit(self, job: Job) -> None:
        """From any thread; waits for nothing."""
        with self._lock:
            if self._is_closed:
                return
            level = self._levels.get(job.depth)
            if level is None:
                level = self._levels[job.depth] = _Level(threading.Condition(self._lock))
            level.jobs.append(job)
            self._staff(level)
            level.changed.notify()

    def refresh(self) -> None:
        """A program has ended: what it has left behind is not waited for."""
        with self._lock:
            for level in self._levels.values():
                if level.jobs:
                    self._staff(level)

    def close(self) -> None:
        """No job is begun any more; callable twice."""
        with self._lock:
            self._is_closed = True
            for level in self._levels.values():
                level.jobs.clear()
                level.changed.notify_all()

    def _staff(self, level: _Level) -> None:
        """Starts a thread for each job that no idle one will take, as far as there may be more."""
        missing = len(level.jobs) - level.num_idle
        if missing > 0 and len(level.running) >= self._size:
            for thread, job in list(level.running.items()):
                if job is not None and not job.is_wanted():
                    del level.running[thread]
        for _ in range(min(missing, self._size - len(level.running))):
            thread = threading.Thread(
                target=self._work, args=(level,), name="furcate-call", daemon=True
            )
            level.running[thread] = None
            thread.start()

    def _work(self, level: _Level) -> None:
        thread = threading.current_thread()
        while (job := self._next(level, thread)) is not None:
            if job.is_wanted():
                job.run()
            del job  # an idle thread holds nothing

    def _next(self, level: _Level, thread: threading.Thread) -> Job | None:
        """The next job of this thread; None where it is to end."""
        with self._lock:
            if thread not in level.running:  # written off meanwhile
                return None
            level.running[thread] = None
            level.changed.wait_for(lambda: level.jobs or self._is_closed, _IDLE_S)
            if not level.jobs:
                del level.running[thread]
                return None
            job = level.running[thread] = level.jobs.popleft()
            return job
