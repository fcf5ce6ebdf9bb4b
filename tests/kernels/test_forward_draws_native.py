"""What a native program draws and scores with its steps and after them, and who reads it."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import numpy as np
import pytest

from furcate.kernels.forward.example import StepRows
from furcate.kernels.library import Pool
from furcate.kernels.sample.native import SCORE_ROW

from .forward_world import (
    TIER,
    VOCAB_SIZE,
    greedy,
    int32,
    long_row,
    make,
    result,
    row,
    running,
    several,
)
from .native import TIERS, library

if TYPE_CHECKING:
    from collections.abc import Iterator

    from furcate.kernels.forward.native import ForwardExecutor
    from furcate.kernels.sample.native import SampleResults


@pytest.fixture
def executor() -> Iterator[ForwardExecutor]:
    with running() as made:
        yield made


@pytest.mark.parametrize("tier", TIERS)
def test_a_negative_id_is_the_token_that_the_step_before_has_drawn(tier: str) -> None:
    with running(tier) as executor:
        ids = [3, 1, 4]
        expected = [int(result(executor, several(n))[0].argmax()) for n in ids]
        assert len(set(expected)) == 3
        follow = result(executor, several(*reversed(expected)))
        rows, no_rows = greedy(0, 1, 2), greedy()
        executor.submit(long_row())
        first = executor.submit(several(*ids), rows)
        second = executor.submit(several(-3, -2, -1), no_rows)
        executor.wait(second)
        np.testing.assert_array_equal(executor.drawn(first).results["token_id"], expected)
        np.testing.assert_array_equal(executor.logits(second), follow)


def test_a_chain_of_draws_needs_nobody_between_the_steps(executor: ForwardExecutor) -> None:
    ids = [7]
    for begin in range(20):
        logits = result(executor, row(ids[-1], begin=begin))
        ids.append(int(logits[0].argmax()))
    rows = greedy(0)
    previous = executor.submit(row(7, first_page=5), rows)
    drawn = []
    for begin in range(1, 20):
        seq = executor.submit(row(-1, begin=begin, first_page=5), rows)
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
        nowhere = StepRows(ids, ids, int32(0, most), int32(1), int32(0)[None], int32(0))
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
    first = executor.submit(row(3), rows)
    second = executor.submit(row(-1, first_page=1))
    executor.wait(second)
    assert executor.drawn(first).results["token_id"][0] == -1
    # Nobody asked for a draw in the step before either.
    third = executor.submit(row(-5, first_page=1))
    executor.wait(third)
    np.testing.assert_array_equal(executor.logits(third), executor.logits(second))
