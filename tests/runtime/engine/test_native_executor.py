"""The native executor draws what the executor in torch draws from the same logits, in any order of
submissions, and computes forwards while others are collected."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.checkpoints import LlamaShape, random_llama, write_llama
from tests.fakes.native_models import Row, batch_of, native_model, random_ids
from tests.kernels.native import AVAILABLE

from furcate.protocol.sampling import Sampling
from furcate.runtime.engine.executor import Draw, ModelExecutor, Score, StepResult
from furcate.runtime.engine.native import NativeExecutor
from furcate.runtime.sample.batch import SampleRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import torch

    from furcate.kernels.forward.native import ForwardBuilder
    from furcate.runtime.engine.batch import ForwardBatch
    from furcate.runtime.engine.executor import Executor
    from furcate.runtime.model.native import NativeModel

SHAPE = LlamaShape(
    vocab_size=83, hidden_size=96, ffn_size=160, num_heads=6, kv_heads=2, head_dim=16
)
NUM_PAGES, PAGE_SIZE = 64, 16
EVEN = np.packbits(np.arange(96) % 2 == 0, bitorder="little").view(np.int32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tensors = random_llama("Q8_0", shape=SHAPE)
    return write_llama(tmp_path_factory.mktemp("model") / "model.gguf", tensors, SHAPE)


class Allocated:
    """A native model whose pages are there already, for an executor that asks for them."""

    def __init__(self, model: NativeModel) -> None:
        self.vocab_size, self.max_context = model.vocab_size, model.max_context
        self.kv_bytes_per_token = model.kv_bytes_per_token
        self._model = model

    def allocate(self, num_pages: int, page_size: int) -> None:
        pass

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        return self._model.forward(batch)


@contextmanager
def reference(path: Path) -> Iterator[ModelExecutor]:
    with native_model(path, AVAILABLE[0], num_pages=NUM_PAGES) as model:
        yield ModelExecutor(Allocated(model), NUM_PAGES, PAGE_SIZE)


@contextmanager
def native(path: Path) -> Iterator[NativeExecutor]:
    with native_model(path, AVAILABLE[0], num_pages=None) as model:
        yield NativeExecutor(model, NUM_PAGES, PAGE_SIZE)


def step(seed: int = 1) -> ForwardBatch:
    """Rows of 3, 1 and 40 tokens: 44 logits."""
    rows = [
        Row(random_ids(count, SHAPE.vocab_size, seed + n), 0, range(4 * n, 4 * n + 4))
        for n, count in enumerate((3, 1, 40))
    ]
    return batch_of(rows)


def draw(
    logit: int,
    sampling: Sampling | None = None,
    mask: np.ndarray | None = None,
    num_logprobs: int | None = None,
    seed: int = 5,
) -> Draw:
    row = SampleRow(
        sampling=sampling or Sampling(temperature=0.0),
        seed=seed,
        index=logit,
        output_ids=[1, 2, 2],
        context_ids=[5, 1, 2, 2],
        mask=mask,
        num_logprobs=num_logprobs,
    )
    return Draw(logit, row)


DRAWS = [
    draw(2),
    draw(3, num_logprobs=3),
    draw(43, Sampling(temperature=0.8, top_p=0.9)),
    draw(10, Sampling(temperature=1.3, top_k=7, repetition_penalty=1.2, frequency_penalty=0.3)),
]
MASKED = [draw(5, mask=EVEN, num_logprobs=0), draw(6, Sampling(temperature=1.0), mask=EVEN)]
SCORES = [Score(0, 7), Score(43, 82, 4)]


def collected(executor: Executor, seq: int, late: Sequence[Draw] = ()) -> StepResult:
    if late:
        executor.draw(seq, late)
    return executor.collect(seq)


def test_draws_and_scores_are_those_of_the_executor_in_torch(path: Path) -> None:
    with native(path) as executor, reference(path) as other:
        for seed in range(5):
            found, expected = (
                collected(each, each.submit(step(seed), DRAWS, SCORES), MASKED)
                for each in (executor, other)
            )
            assert len(found.sampled) == len(DRAWS) + len(MASKED)
            for a, b in zip(found.sampled, expected.sampled, strict=True):
                assert (a.token_id, a.are_broken) == (b.token_id, b.are_broken)
                assert (a.logprobs is None) == (b.logprobs is None)
                if a.logprobs is not None and b.logprobs is not None:
                    assert a.logprobs.logprob == pytest.approx(b.logprobs.logprob, abs=1e-5)
                    assert [i for i, _ in a.logprobs.top] == [i for i, _ in b.logprobs.top]
            for c, d in zip(found.scores, expected.scores, strict=True):
                assert c.logprob == pytest.approx(d.logprob, abs=1e-5)
                assert [i for i, _ in c.top] == [i for i, _ in d.top]


def tokens(executor: Executor, seq: int, late: Sequence[Draw] = ()) -> list[int | None]:
    return [sampled.token_id for sampled in collected(executor, seq, late).sampled]


def test_masked_rows_are_drawn_between_forwards_that_are_in_flight(path: Path) -> None:
    with native(path) as executor:
        alone = [tokens(executor, executor.submit(step(seed), DRAWS), MASKED) for seed in range(30)]
        assert alone[0] != alone[1]
        ahead = executor.submit(step(0), DRAWS)
        for seed in range(30):
            executor.draw(ahead, MASKED)
            next_one = executor.submit(step((seed + 1) % 30), DRAWS)
            assert tokens(executor, ahead) == alone[seed]
            ahead = next_one
        executor.collect(ahead)


class Turn(NamedTuple):
    """A forward in a sequence of calls."""

    num_draws: int
    has_late_draws: bool
    reads_drawn: bool  # of the forward before
    num_behind: int  # forwards that stay in flight behind it
    is_collected: bool


TURNS = st.builds(
    Turn, st.integers(0, 4), st.booleans(), st.booleans(), st.integers(0, 2), st.booleans()
)


def play(executor: Executor, turns: Sequence[Turn]) -> list[list[int | None]]:
    """Tokens of the forwards that are collected."""
    found: list[list[int | None]] = []
    flights: list[tuple[int, Turn]] = []
    num_readable = 0
    for n, turn in enumerate(turns):
        batch = step(n)
        if turn.reads_drawn and num_readable:
            ids = batch.token_ids.copy()
            ids[::5] = -1 - np.arange(len(ids[::5])) % num_readable
            batch = replace(batch, token_ids=ids)
        seq = executor.submit(batch, DRAWS[: turn.num_draws], SCORES[: n % 3])
        if turn.has_late_draws:
            executor.draw(seq, MASKED)
        num_readable = turn.num_draws + len(MASKED) * turn.has_late_draws
        flights.append((seq, turn))
        while len(flights) > turn.num_behind:
            seq, oldest = flights.pop(0)
            if oldest.is_collected:
                found.append(tokens(executor, seq))
    return found


@pytest.fixture(scope="module")
def both(path: Path) -> Iterator[tuple[Executor, Executor]]:
    with native(path) as executor, reference(path) as other:
        yield executor, other


@settings(deadline=None, max_examples=25)
@given(turns=st.lists(TURNS, max_size=8))
def test_any_order_of_calls_draws_what_the_executor_in_torch_draws(
    both: tuple[Executor, Executor], turns: list[Turn]
) -> None:
    executor, other = both
    assert play(executor, turns) == play(other, turns)


def test_scores_are_there_while_a_later_forward_is_in_flight(path: Path) -> None:
    with native(path) as executor:
        expected = executor.collect(executor.submit(step(3), DRAWS, SCORES))
        first = executor.submit(step(3), DRAWS, SCORES)
        executor.draw(first, MASKED)
        executor.submit(step(1))
        found = executor.collect(first)
        assert found.scores == expected.scores
        assert found.sampled[: len(DRAWS)] == expected.sampled


def test_a_forward_that_fails_costs_none_after_it(path: Path) -> None:
    width, most = 1 << 26, 1 << 19  # 160 TiB of activations: more than there are addresses
    with native_model(path, AVAILABLE[0], num_pages=None) as model:
        define = model._define

        def define_wide(builder: ForwardBuilder) -> None:
            builder.buffer("f32", width)
            define(builder)

        model._define = define_wide
        executor = NativeExecutor(model, NUM_PAGES, PAGE_SIZE)
        one = batch_of([Row(np.zeros(1, np.int32), 0, [0])])
        alone = tokens(executor, executor.submit(one, [draw(0)]))
        ids = np.zeros(most, np.int32)
        starts = np.array([0, most], np.int32)
        failed = executor.submit(
            replace(one, token_ids=ids, positions=ids, row_starts=starts), [draw(0)], [Score(0, 1)]
        )
        executor.draw(failed, [draw(0, mask=EVEN)])
        reads = replace(one, token_ids=np.array([-2], np.int32))  # nothing, which counts as 0
        later = executor.submit(reads, [draw(0)])
        with pytest.raises(MemoryError, match="step 2 found no memory"):
            executor.collect(failed)
        assert tokens(executor, later) == alone
        assert tokens(executor, executor.submit(one, [draw(0)])) == alone


def test_a_step_that_nobody_collects_is_passed_over(path: Path) -> None:
    with native(path) as executor:
        expected = tokens(executor, executor.submit(step(3), DRAWS))
        executor.submit(step(1), DRAWS)
        executor.submit(step(2), MASKED)
        assert tokens(executor, executor.submit(step(3), DRAWS)) == expected


def test_what_draws_point_to_lives_until_they_are_made(path: Path) -> None:
    with native(path) as executor:
        expected = tokens(executor, executor.submit(step(3), [*DRAWS, *MASKED]))
        steps = []
        for _ in range(3):
            biased = Sampling(temperature=0.0, logit_bias={3: 0.0, 4: -1.0})
            extra = draw(7, biased, mask=EVEN.copy())
            steps.append(executor.submit(step(3), [*DRAWS, *MASKED, extra]))
            del extra, biased
        for seq in steps:
            assert tokens(executor, seq)[: len(expected)] == expected


def test_facts_of_the_model_are_told_and_closing_is_final(path: Path) -> None:
    before = threading.active_count()
    with native(path) as executor:
        assert (executor.vocab_size, executor.max_context) == (83, 256)
        assert (executor.num_pages, executor.page_size) == (NUM_PAGES, PAGE_SIZE)
        executor.submit(step())
        executor.close()
        executor.close()
        with pytest.raises(ValueError, match="the executor is closed"):
            executor.submit(step())
    assert threading.active_count() == before
