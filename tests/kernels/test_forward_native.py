"""A native program runs its steps in order on a thread of its own: results, draws, life and end."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from furcate.kernels import structures
from furcate.kernels.elementwise.native import TableType
from furcate.kernels.forward.native import ForwardBuilder
from furcate.kernels.library import Pool, check_sizes
from furcate.kernels.linear.weight import LinearWeight, StoredRows
from furcate.kernels.sample.native import SAMPLE_ROW, SCORE_ROW
from furcate.kernels.structures import Embedding, KVPages, KVShape

from .native import AVAILABLE, TIERS, library

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from furcate.kernels.forward.native import ForwardExecutor
    from furcate.kernels.sample.native import SampleResults

TIER = AVAILABLE[0]
PAGE_SIZE, NUM_PAGES = 16, 256
HEADS, HEAD_DIM, WIDTH, VOCAB_SIZE = 2, 32, 64, 50
LONG = 3000  # tokens whose attention takes a while
IDLE_S, SLEEPS_WITHIN_S = 0.3, 10.0


class Copy(NamedTuple):
    source: int
    target: int
    num_tokens: int


def int32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


@dataclass(frozen=True, slots=True)
class Batch:
    token_ids: np.ndarray
    positions: np.ndarray
    row_starts: np.ndarray
    kv_lens: np.ndarray
    page_table: np.ndarray
    logit_indices: np.ndarray
    copies: Sequence[Copy] = field(default=())


def row(*ids: int, begin: int = 0, first_page: int = 0, num_logits: int = 1) -> Batch:
    """One row, with logits for its last tokens."""
    end = begin + len(ids)
    num_pages = -(-end // PAGE_SIZE)
    return Batch(
        token_ids=int32(*ids),
        positions=np.arange(begin, end, dtype=np.int32),
        row_starts=int32(0, len(ids)),
        kv_lens=int32(end),
        page_table=np.arange(first_page, first_page + num_pages, dtype=np.int32)[None],
        logit_indices=np.arange(len(ids) - num_logits, len(ids), dtype=np.int32),
    )


def several(*ids: int) -> Batch:
    """A token each of so many sequences, on pages 10, 11 .."""
    count = len(ids)
    return Batch(
        token_ids=int32(*ids),
        positions=np.zeros(count, np.int32),
        row_starts=np.arange(count + 1, dtype=np.int32),
        kv_lens=np.ones(count, np.int32),
        page_table=np.arange(10, 10 + count, dtype=np.int32)[:, None],
        logit_indices=np.arange(count, dtype=np.int32),
    )


def long_row(num_logits: int = 1) -> Batch:
    return row(*[n % VOCAB_SIZE for n in range(LONG)], num_logits=num_logits)


def define(builder: ForwardBuilder, pool: Pool, num_layers: int) -> None:
    rng = np.random.default_rng(0)

    def floats(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.3, shape).astype(np.float32)

    def matrix(n: int, k: int) -> LinearWeight:
        return LinearWeight.pack(pool, [StoredRows("F32", n, floats(n, k))], k, "f32")

    table = floats(VOCAB_SIZE, WIDTH)
    builder.keep(table)
    hidden, normed = builder.buffer("f32", WIDTH), builder.buffer("f32", WIDTH)
    qkv, q = builder.buffer("f32", 3 * HEADS * HEAD_DIM), builder.buffer("bf16", HEADS * HEAD_DIM)
    rope = builder.rope(0.1 ** np.arange(HEAD_DIM // 2, dtype=np.float32))
    builder.embed(Embedding(TableType.F32, WIDTH, VOCAB_SIZE, table.ctypes.data, 1.0), hidden)
    ones = np.ones(WIDTH, np.float32)
    for layer in range(num_layers):
        builder.norm(hidden, ones, 1e-5, normed)
        builder.linear(normed, matrix(3 * HEADS * HEAD_DIM, WIDTH), qkv)
        builder.rotate(layer, qkv, q, rope, HEAD_DIM, True)
        builder.attend(layer, q, normed, HEAD_DIM**-0.5)
        builder.linear(normed, matrix(WIDTH, WIDTH), hidden, "add")
    builder.head(hidden, ones, 1e-5, matrix(VOCAB_SIZE, WIDTH))


def make(pool: Pool, num_layers: int = 2, *, unused_width: int = 0) -> ForwardExecutor:
    """`unused_width`: of one more buffer, which has memory and no use."""
    shape = KVShape(0, HEADS, HEADS, HEAD_DIM, PAGE_SIZE, NUM_PAGES)
    num_bytes = 2 * NUM_PAGES * PAGE_SIZE * HEADS * HEAD_DIM
    memory = [np.zeros(num_bytes + 64, np.uint8) for _ in range(2 * num_layers)]
    starts = [-(-each.ctypes.data // 64) * 64 for each in memory]
    layers = (KVPages * num_layers)(
        *(KVPages(starts[2 * n], starts[2 * n + 1]) for n in range(num_layers))
    )
    builder = ForwardBuilder(pool, shape, layers, VOCAB_SIZE)
    builder.keep(memory)
    if unused_width:
        builder.buffer("f32", unused_width)
    define(builder, pool, num_layers)
    return builder.build()


@contextmanager
def running(tier: str = TIER, num_threads: int = 2) -> Iterator[ForwardExecutor]:
    with Pool(library(tier), num_threads) as pool:
        executor = make(pool)
        try:
            yield executor
        finally:
            executor.close()


@pytest.fixture
def executor() -> Iterator[ForwardExecutor]:
    with running() as made:
        yield made


def result(executor: ForwardExecutor, batch: Batch) -> np.ndarray:
    seq = executor.submit(batch)
    executor.wait(seq)
    return executor.logits(seq).copy()


def greedy(*logits: int, mask: np.ndarray | None = None) -> np.ndarray:
    """Records that draw the largest logit of each row."""
    rows = np.zeros(len(logits), SAMPLE_ROW)
    rows["logit"] = logits
    rows["top_p"], rows["repetition_penalty"], rows["num_top"] = 1, 1, -1
    if mask is not None:
        rows["mask"] = mask.ctypes.data
    return rows


def submit_with(executor: ForwardExecutor, batch: Batch, rows: np.ndarray) -> int:
    return executor.submit(batch, rows)


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


@pytest.mark.parametrize("tier", TIERS)
def test_a_negative_id_is_the_token_that_the_step_before_has_drawn(tier: str) -> None:
    with running(tier) as executor:
        ids = [3, 1, 4]
        expected = [int(result(executor, several(n))[0].argmax()) for n in ids]
        assert len(set(expected)) == 3
        follow = result(executor, several(*reversed(expected)))
        rows, no_rows = greedy(0, 1, 2), greedy()
        executor.submit(long_row())
        first = submit_with(executor, several(*ids), rows)
        second = submit_with(executor, several(-3, -2, -1), no_rows)
        executor.wait(second)
        np.testing.assert_array_equal(executor.drawn(first).results["token_id"], expected)
        np.testing.assert_array_equal(executor.logits(second), follow)


def test_a_chain_of_draws_needs_nobody_between_the_steps(executor: ForwardExecutor) -> None:
    ids = [7]
    for begin in range(20):
        logits = result(executor, row(ids[-1], begin=begin))
        ids.append(int(logits[0].argmax()))
    rows = greedy(0)
    previous = submit_with(executor, row(7, first_page=5), rows)
    drawn = []
    for begin in range(1, 20):
        seq = submit_with(executor, row(-1, begin=begin, first_page=5), rows)
        executor.wait(previous)
        drawn.append(int(executor.drawn(previous).results["token_id"][0]))
        previous = seq
    executor.wait(previous)
    drawn.append(int(executor.drawn(previous).results["token_id"][0]))
    assert drawn == ids[1:]


def drawn_ids(found: SampleResults) -> list[int]:
    ids: list[int] = found.results["token_id"].tolist()
    return ids


def only(*ids: int) -> np.ndarray:
    """A mask."""
    bits = np.zeros(64, np.uint8)
    bits[list(ids)] = 1
    return np.packbits(bits, bitorder="little").view(np.uint32)


@pytest.mark.parametrize("tier", TIERS)
def test_late_draws_feed_the_next_step_and_count_after_the_others(tier: str) -> None:
    with running(tier) as executor:
        ids = [3, 1, 4]
        best = [int(result(executor, several(n))[0].argmax()) for n in ids]
        expected = [best[0], 17, 23]
        follow = result(executor, several(23, 17, best[0], 0))
        executor.submit(long_row())
        first = executor.submit(several(*ids), greedy(0))
        masks = [only(17), only(23)]
        late = np.concatenate([greedy(1, mask=masks[0]), greedy(2, mask=masks[1])])
        executor.draw(first, late, masks)
        late.fill(0)  # the records are copied
        second = executor.submit(several(-3, -2, -1, -4))  # there is no fourth
        executor.wait(second)
        assert drawn_ids(executor.drawn(first)) == expected[:1]
        assert drawn_ids(executor.drawn_late(first)) == expected[1:]
        assert drawn_ids(executor.drawn_late(second)) == []
        np.testing.assert_array_equal(executor.logits(second), follow)


def test_a_chain_of_late_draws_needs_nobody_but_who_asks_for_them(
    executor: ForwardExecutor,
) -> None:
    masks = [only(*range(n % 7, VOCAB_SIZE, 7)) for n in range(20)]
    ids = [7]
    for begin in range(20):
        seq = executor.submit(row(ids[-1], begin=begin), greedy(0, mask=masks[begin]))
        executor.wait(seq)
        ids += drawn_ids(executor.drawn(seq))
    steps, drawn = [], []
    for begin in range(20):
        steps.append(executor.submit(row(-1 if begin else 7, begin=begin, first_page=5)))
        executor.draw(steps[-1], greedy(0, mask=masks[begin]), masks[begin])
        if begin >= 2:
            executor.wait(steps[begin - 2])
            drawn += drawn_ids(executor.drawn_late(steps[begin - 2]))
    for seq in steps[-2:]:
        executor.wait(seq)
        drawn += drawn_ids(executor.drawn_late(seq))
    assert drawn == ids[1:]


def test_a_step_is_done_when_its_late_draws_are(executor: ForwardExecutor) -> None:
    executor.submit(long_row())
    seq = executor.submit(several(1, 2))
    executor.draw(seq, greedy(1))
    assert not executor.is_done(seq)
    executor.wait(seq)
    assert executor.is_done(seq)
    # Of a step that has ended too.
    seq = executor.submit(several(1, 2))
    executor.wait(seq)
    best = executor.logits(seq).argmax(1).tolist()
    executor.draw(seq, greedy(1, 0))
    executor.wait(seq)
    assert drawn_ids(executor.drawn_late(seq)) == best[::-1]


def test_late_draws_are_of_the_last_step_and_once() -> None:
    with running() as executor:
        with pytest.raises(ValueError, match="step 0 is not the last one submitted, 0"):
            executor.draw(0, greedy(0))
        first, second = executor.submit(several(1)), executor.submit(several(2))
        with pytest.raises(ValueError, match="step 1 is not the last one submitted, 2"):
            executor.draw(first, greedy(0))
        executor.draw(second, greedy(0))
        with pytest.raises(ValueError, match="late draws of step 2 have been asked for already"):
            executor.draw(second, greedy(0))


def test_scores_are_made_with_the_step_while_a_later_one_runs(executor: ForwardExecutor) -> None:
    logits = result(executor, several(3, 1)).astype(np.float64)
    exact = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    asked = np.array([(1, 5, 3), (0, 49, 0), (1, 0, 1), (0, -1, 0)], SCORE_ROW)
    first = executor.submit(several(3, 1), scores=asked)
    asked["token_id"] = 0  # copied
    later = executor.submit(long_row())
    executor.wait(first)
    found = executor.scored(first)
    np.testing.assert_allclose(
        found.logprobs, [exact[1, 5], exact[0, 49], exact[1, 0], np.nan], atol=1e-5
    )
    assert found.top_ids[0].tolist() == np.argsort(-logits[1])[:3].tolist()
    assert len(executor.scored(later).logprobs) == 0


def test_a_step_without_memory_fails_alone() -> None:
    """Its draws found nothing, and those who read them are computed all the same."""
    width, most = 1 << 26, 1 << 19  # 160 TiB of activations: more than there are addresses
    with Pool(library(TIER), 2) as pool:
        executor = make(pool, unused_width=width)
        follow = result(executor, several(0))
        ids = np.zeros(most, np.int32)
        nowhere = Batch(ids, ids, int32(0, most), int32(1), int32(0)[None], int32(0))
        failed = executor.submit(nowhere, greedy(0), np.zeros(1, SCORE_ROW))
        executor.draw(failed, greedy(0))
        later = executor.submit(several(-2), greedy(0))
        with pytest.raises(MemoryError, match="step 2 found no memory for its activations"):
            executor.wait(failed)
        assert executor.is_done(failed)
        assert drawn_ids(executor.drawn(failed)) == drawn_ids(executor.drawn_late(failed)) == [-1]
        assert np.isnan(executor.scored(failed).logprobs).all()
        executor.wait(later)
        np.testing.assert_array_equal(executor.logits(later), follow)
        assert drawn_ids(executor.drawn(later)) == [follow[0].argmax()]
        executor.close()


def test_what_draws_point_to_lives_until_an_executor_that_is_let_go_has_ended() -> None:
    with Pool(library(TIER), 1) as pool:
        executor = make(pool)
        masks = [only(n) for n in range(2)]
        watched = [weakref.ref(mask) for mask in masks]
        executor.submit(long_row(), greedy(0, mask=masks[0]), pointees=masks[0])
        executor.draw(1, greedy(0, mask=masks[1]), masks[1])
        masks.clear()
        gc.collect()
        assert all(each() is not None for each in watched)
        del executor
        gc.collect()
        assert all(each() is None for each in watched)


def test_a_step_after_a_draw_that_found_nothing_is_computed_all_the_same(
    executor: ForwardExecutor,
) -> None:
    nothing = np.zeros(-(-VOCAB_SIZE // 32), np.uint32)
    rows = greedy(0, mask=nothing)
    first = submit_with(executor, row(3), rows)
    second = executor.submit(row(-1, first_page=1))
    executor.wait(second)
    assert executor.drawn(first).results["token_id"][0] == -1
    # Nobody asked for a draw in the step before either.
    third = executor.submit(row(-5, first_page=1))
    executor.wait(third)
    np.testing.assert_array_equal(executor.logits(third), executor.logits(second))


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
    nothing = Batch(int32(), int32(), int32(0), int32(), np.empty((0, 1), np.int32), int32())
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
    both = Batch(
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
