"""The pool: every task once, rounds kept apart, nothing used while idle."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from furcate.kernels.bench import BenchCase, Peaks, measure, roofline
from furcate.kernels.library import Pool
from furcate.kernels.pool.check import check

from .native import TIERS, library

IDLE_S = 0.2
SLEEPS_WITHIN_S = 10.0


def own(tier: str = "portable", num_threads: int = 2, cpus: list[int] | None = None) -> Pool:
    return Pool(library(tier, "probe"), num_threads, cpus)


def thread_ids() -> set[int]:
    return {int(path.name) for path in Path("/proc/self/task").iterdir()}


def cpu_ns(thread_id: int) -> int:
    """What the scheduler counted for a thread."""
    return int(Path(f"/proc/self/task/{thread_id}/schedstat").read_text().split()[0])


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("num_threads", [1, 2, 3, 8, 64])
def test_every_task_is_done_once_and_rounds_do_not_mix(tier: str, num_threads: int) -> None:
    with own(tier, num_threads) as pool:
        assert check(pool.library, pool) == []


def test_a_pool_is_usable_from_one_thread_after_another() -> None:
    with own() as pool:
        found: list[list[str]] = []
        for _ in range(3):
            thread = threading.Thread(target=lambda: found.append(check(pool.library, pool)))
            thread.start()
            thread.join()
        assert found == [[], [], []]


def test_jobs_of_two_threads_take_turns() -> None:
    with own() as pool:
        found: list[list[str]] = []
        threads = [
            threading.Thread(target=lambda: found.append(check(pool.library, pool)))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [[], []]


def test_pools_do_not_disturb_each_other() -> None:
    with own() as one, own() as other:
        found: list[list[str]] = []
        threads = [
            threading.Thread(target=lambda pool=pool: found.append(check(pool.library, pool)))
            for pool in (one, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [[], []]


def test_an_idle_pool_uses_no_processor_time() -> None:
    before = thread_ids()
    with own(num_threads=4) as pool:
        started = thread_ids() - before
        assert len(started) == 3
        assert check(pool.library, pool) == []
        # They spin and yield for a moment: on a busy machine that takes as long as it takes.
        deadline = time.monotonic() + SLEEPS_WITHIN_S
        quiet = False
        while not quiet and time.monotonic() < deadline:
            used = sum(map(cpu_ns, started))
            threading.Event().wait(IDLE_S)
            quiet = sum(map(cpu_ns, started)) == used
        assert quiet
        assert check(pool.library, pool) == []  # and they wake up


def test_a_closed_pool_has_no_threads_and_closes_again() -> None:
    before = thread_ids()
    pool = own(num_threads=4)
    pool.close()
    pool.close()
    assert thread_ids() <= before
    with pytest.raises(ValueError, match="the pool is closed"):
        _ = pool.handle


def test_pinned_threads_work_and_a_cpu_that_is_not_there_is_told() -> None:
    cpu = min(os.sched_getaffinity(0))
    with own(num_threads=2, cpus=[cpu, cpu]) as pool:
        assert check(pool.library, pool) == []
    with pytest.raises(OSError, match=r"1 threads could not be started on CPUs \[0, 1000\]"):
        own(num_threads=2, cpus=[0, 1000])
    with pytest.raises(ValueError, match="one CPU a thread: 1 for 2"):
        own(num_threads=2, cpus=[0])


def test_a_pool_has_at_least_one_thread() -> None:
    with pytest.raises(ValueError, match="num_threads must be >= 1, got 0"):
        own(num_threads=0)


def test_a_forked_child_may_close_what_it_inherited() -> None:
    pool = own()
    pool._process += 1  # as if the process had another id now
    pool.close()
    assert pool._address is None


def test_tasks_use_all_threads() -> None:
    with own(num_threads=2) as pool:
        lib = pool.library.lib
        lib.fc_pool_threads.argtypes = [ctypes.c_void_p]
        lib.fc_pool_threads.restype = ctypes.c_int32
        assert lib.fc_pool_threads(pool.handle) == 2


def test_the_roof_is_the_slower_of_arithmetic_and_memory() -> None:
    peaks = Peaks(1, {"int8": 4.0, "bf16": 2.0, "fp32": 1.0}, 10.0)
    arithmetic = BenchCase("a", lambda: None, flops=8.0, bytes=10.0, unit="int8")
    memory = BenchCase("m", lambda: None, flops=8.0, bytes=50.0, unit="int8")
    assert roofline(arithmetic, 4.0, peaks) == 0.5
    assert roofline(memory, 10.0, peaks) == 0.5


def test_a_measurement_is_the_median_of_repeats_of_many_calls() -> None:
    now = 0.0
    calls = 0

    def run() -> None:
        nonlocal now, calls
        calls += 1
        now += 0.5 if calls == 100 else 0.001  # once the machine does something else

    case = BenchCase("toy", run, 1.0, 1.0, "fp32")
    assert measure(case, clock=lambda: now) == pytest.approx(0.001)
    assert calls == 2 + 7 * 20


@pytest.mark.parametrize("num_threads", [1, 2])
def test_touched_memory_is_there_and_keeps_its_contents(num_threads: int) -> None:
    size = 5 << 20
    memory = np.frombuffer(mmap.mmap(-1, size), np.uint8)
    start = memory.ctypes.data
    memory[100] = 7
    is_resident = np.zeros(size // mmap.PAGESIZE, np.uint8)
    with own(num_threads=num_threads) as pool:
        pool.touch([start], 0)
        pool.touch([start + 64, start + size // 2], size // 2 - 64)
    libc = ctypes.CDLL(None)
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    assert libc.mincore(start, size, is_resident.ctypes.data) == 0
    assert (is_resident & 1).all()
    assert memory[100] == 7
    assert memory.sum(dtype=np.int64) == 7
