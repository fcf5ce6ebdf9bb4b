"""A native program runs its steps in order on a thread of its own: results, life and end."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from furcate.kernels import structures
from furcate.kernels.forward.example import StepRows
from furcate.kernels.library import Pool, check_sizes

from .forward_world import (
    HEAD_DIM,
    HEADS,
    LONG,
    PAGE_SIZE,
    TIER,
    VOCAB_SIZE,
    WIDTH,
    Copy,
    ForwardBuilder,
    KVPages,
    KVShape,
    int32,
    long_row,
    make,
    result,
    row,
    running,
)
from .native import TIERS, library

if TYPE_CHECKING:
    from collections.abc import Iterator

    from furcate.kernels.forward.native import ForwardExecutor

IDLE_S, SLEEPS_WITHIN_S = 0.3, 10.0


@pytest.fixture
def executor() -> Iterator[ForwardExecutor]:
    with running() as made:
        yield made


def thread_ids() -> set[int]:
    return {int(path.name) for path in Path("/proc/self/task").iterdir()}


def cpu_ns(thread_id: int) -> int:
    return int(Path(f"/proc/self/task/{thread_id}/schedstat").read_text().split()[0])


def test_submit_returns_before_the_forward_has_ended_and_steps_end_in_order(
    executor: ForwardExecutor,
) -> None:
    steps = [executor.submit(long_row()) for _ in range(3)]
    assert steps == [1, 2, 3]
    assert not executor.is_done(3)
    executor.wait(2)
    assert executor.is_done(1)
    executor.wait(3)
    assert [executor.is_done(seq) for seq in steps] == [True] * 3
    for seq in (2, 3):
        np.testing.assert_array_equal(executor.logits(seq), executor.logits(1))


def test_results_stay_until_three_later_steps_are_submitted(executor: ForwardExecutor) -> None:
    expected = [result(executor, row(n, n + 1, num_logits=2)) for n in range(8)]
    steps: list[int] = []
    for n in range(8):
        steps.append(executor.submit(row(n, n + 1, num_logits=2)))
        executor.wait(steps[-1])
        for age in range(min(4, n + 1)):
            found = executor.logits(steps[n - age])
            np.testing.assert_array_equal(found, expected[n - age], f"{age} later steps")
    with pytest.raises(KeyError):
        executor.logits(steps[-5])


def test_what_the_caller_does_with_its_arrays_afterwards_does_not_matter(
    executor: ForwardExecutor,
) -> None:
    expected = result(executor, row(1, 2, 3))
    executor.submit(long_row())
    batch = row(1, 2, 3, first_page=200)
    seq = executor.submit(batch)
    for array in (batch.token_ids, batch.positions, batch.kv_lens, batch.page_table):
        array.fill(0)
    executor.wait(seq)
    np.testing.assert_array_equal(executor.logits(seq), expected)


def test_waiting_leaves_python_to_other_threads(executor: ForwardExecutor) -> None:
    begin, ran = threading.Event(), threading.Event()

    def run() -> None:
        begin.wait()
        ran.set()

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=run)
    thread.start()
    sys.setswitchinterval(1000)  # no thread takes over unless it is let
    try:
        begin.set()
        steps = [executor.submit(long_row()) for _ in range(3)]
        for seq in steps:
            executor.wait(seq)
        did_run = ran.is_set()
    finally:
        sys.setswitchinterval(interval)
        thread.join()
    assert did_run


@pytest.mark.parametrize("num_steps", [0, 1, 3])
def test_closing_ends_the_thread_with_steps_in_flight_or_without(num_steps: int) -> None:
    before = thread_ids()
    with Pool(library(TIER), 3) as pool:
        executor = make(pool)
        assert len(thread_ids() - before) == 3  # two of the pool
        for _ in range(num_steps):
            executor.submit(long_row())
        executor.close()
        executor.close()
        assert len(thread_ids() - before) == 2
    assert thread_ids() <= before
    with pytest.raises(ValueError, match="the executor is closed"):
        executor.submit(row(1))
    with pytest.raises(ValueError, match="the executor is closed"):
        executor.is_done(1)


def test_an_executor_that_is_let_go_ends_its_thread_first() -> None:
    before = thread_ids()
    with Pool(library(TIER), 1) as pool:
        executor = make(pool)
        for _ in range(3):
            executor.submit(long_row())
        del executor
        gc.collect()
        assert thread_ids() <= before


def test_a_forked_child_may_close_what_it_inherited() -> None:
    with running() as executor:
        executor._process += 1  # as if the process had another id now
        executor.close()
        executor._process -= 1
        assert executor._address is None


def test_an_idle_executor_uses_no_processor_time() -> None:
    before = thread_ids()
    with running() as executor:
        started = thread_ids() - before
        assert len(started) == 2  # its own, and one of the pool
        result(executor, row(1, 2))
        # They spin and yield for a moment: on a busy machine that takes as long as it takes.
        deadline = time.monotonic() + SLEEPS_WITHIN_S
        quiet = False
        while not quiet and time.monotonic() < deadline:
            used = sum(map(cpu_ns, started))
            threading.Event().wait(IDLE_S)
            quiet = sum(map(cpu_ns, started)) == used
        assert quiet
        result(executor, row(1, 2))  # and they wake up


def test_a_step_may_have_no_logits_and_no_rows(executor: ForwardExecutor) -> None:
    expected = result(executor, row(1, 2, 3))
    assert result(executor, row(1, 2, first_page=3, num_logits=0)).shape == (0, VOCAB_SIZE)
    nothing = StepRows(int32(), int32(), int32(0), int32(), np.empty((0, 1), np.int32), int32())
    assert result(executor, nothing).shape == (0, VOCAB_SIZE)
    found = result(executor, row(3, begin=2, first_page=3))
    np.testing.assert_array_equal(found, expected)


def test_buffers_grow_with_the_step_and_serve_small_ones_again(executor: ForwardExecutor) -> None:
    expected = result(executor, row(5, first_page=200))
    sizes = (2, 1, 40, 7, 1000, LONG, 3)
    for size in sizes:
        found = result(executor, row(*([5] * size), num_logits=size))
        assert found.shape == (size, VOCAB_SIZE)
        np.testing.assert_array_equal(found[:1], expected)


def test_copies_happen_in_order_in_every_layer(executor: ForwardExecutor) -> None:
    """What a step writes to page 0 goes by way of page 1 to page 2, where a row reads it."""
    expected = result(executor, row(*range(1, 12)))
    result(executor, row(*[9] * PAGE_SIZE, first_page=2))
    writer, reader = row(*range(1, 11)), row(11, begin=10, first_page=2)
    both = StepRows(
        token_ids=np.concatenate([writer.token_ids, reader.token_ids]),
        positions=np.concatenate([writer.positions, reader.positions]),
        row_starts=int32(0, 10, 11),
        kv_lens=int32(10, 11),
        page_table=np.concatenate([writer.page_table, reader.page_table]),
        logit_indices=int32(10),
        copies=[Copy(0, 1, 10), Copy(1, 2, 10), Copy(2, 2, 10)],
    )
    np.testing.assert_array_equal(result(executor, both), expected)


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_and_number_of_threads_gives_the_same_bits(tier: str) -> None:
    with running(num_threads=1) as single:
        expected = result(single, row(*range(40), num_logits=40))
    for num_threads in (1, 2, 5):
        with running(tier, num_threads) as executor:
            found = result(executor, row(*range(40), num_logits=40))
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("tier", TIERS)
def test_every_struct_has_the_size_that_its_library_says(tier: str) -> None:
    mirrors = {
        name: mirror
        for name in structures.__all__
        if isinstance(mirror := getattr(structures, name), type)
        and issubclass(mirror, ctypes.Structure)
    }
    assert len(mirrors) == 12
    check_sizes(library(tier).lib, mirrors)
    with running(tier):  # binding checks them too
        pass


def test_a_norm_of_another_width_is_refused() -> None:
    with Pool(library(TIER), 1) as pool:
        builder = ForwardBuilder(
            pool, KVShape(0, HEADS, HEADS, HEAD_DIM, PAGE_SIZE, 1), (KVPages * 0)(), VOCAB_SIZE
        )
        buffer = builder.buffer("f32", WIDTH)
        with pytest.raises(ValueError, match=r"the norm's weight must be \[64\], got \[63\]"):
            builder.norm(buffer, np.ones(WIDTH - 1, np.float32), 1e-5, buffer)
        builder.build().close()
