"""The threads that call the functions of programs."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from furcate.lang.backend.call_pool import CallPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAIT_S = 5.0


@dataclass(eq=False)
class Work:
    """Runs until it is let go."""

    depth: int = 0
    wanted: bool = True
    begun: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def is_wanted(self) -> Callable[[], bool]:
        return lambda: self.wanted

    def run(self) -> None:
        self.begun.set()
        assert self.go.wait(WAIT_S)
        self.done.set()


@pytest.fixture
def pool() -> Iterator[CallPool]:
    pool = CallPool(size=2)
    yield pool
    pool.close()


def submit(pool: CallPool, *jobs: Work) -> None:
    for job in jobs:
        pool.submit(job)


def finish(*jobs: Work) -> None:
    for job in jobs:
        job.go.set()
    assert all(job.done.wait(WAIT_S) for job in jobs)


def test_jobs_run_side_by_side_up_to_the_size(pool):
    jobs = [Work() for _ in range(3)]
    submit(pool, *jobs)
    assert jobs[0].begun.wait(WAIT_S)
    assert jobs[1].begun.wait(WAIT_S)
    assert not jobs[2].begun.is_set()
    finish(jobs[0])
    assert jobs[2].begun.wait(WAIT_S)
    finish(*jobs)


def test_a_deeper_job_never_waits_for_those_above_it(pool):
    above = [Work() for _ in range(2)]
    submit(pool, *above)
    below = Work(depth=1)
    submit(pool, below)
    finish(below)
    finish(*above)


def test_a_job_that_nobody_wants_any_more_takes_no_place(pool):
    stuck, waiting = [Work(), Work()], Work()
    submit(pool, *stuck)
    assert all(job.begun.wait(WAIT_S) for job in stuck)
    submit(pool, waiting)
    assert not waiting.begun.is_set()
    stuck[0].wanted = False
    pool.refresh()
    finish(waiting)
    finish(*stuck)


def test_a_job_that_nobody_wants_when_its_turn_comes_is_not_begun(pool):
    first, second = [Work(), Work()], Work()
    submit(pool, *first, second)
    assert all(job.begun.wait(WAIT_S) for job in first)
    second.wanted = False
    last = Work()
    submit(pool, last)
    finish(*first)
    finish(last)
    assert not second.begun.is_set()


def test_a_thread_is_used_again(pool):
    names = set()

    class Named(Work):
        def run(self) -> None:
            names.add(threading.current_thread().ident)
            super().run()

    for _ in range(10):
        job = Named()
        submit(pool, job)
        finish(job)
    assert len(names) <= 2


def test_a_closed_pool_begins_nothing(pool):
    running, queued, late = [Work(), Work()], Work(), Work()
    submit(pool, *running, queued)
    assert all(job.begun.wait(WAIT_S) for job in running)
    pool.close()
    pool.close()
    submit(pool, late)
    finish(*running)
    assert not queued.begun.is_set()
    assert not late.begun.is_set()
