"""Draws against naive formulas, their distribution, and their bits alone and in a batch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from furcate.protocol.sampling import Sampling
from furcate.runtime.sample.adjust import adjust, allowed_ids
from furcate.runtime.sample.batch import Sampled, SampleRow
from furcate.runtime.sample.sampler import Sampler, log_probs

VOCAB = 1000
SAMPLER = Sampler()

samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 1e-300, 0.3, 1.0, 2.5]),
    top_k=st.sampled_from([-1, 1, 3, 70, 5000]),
    top_p=st.sampled_from([1.0, 0.95, 0.5, 1e-9]),
    min_p=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    frequency_penalty=st.sampled_from([0.0, 0.7, -2.0]),
    presence_penalty=st.sampled_from([0.0, 1.5]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.5]),
    logit_bias=st.dictionaries(st.integers(0, VOCAB - 1), st.floats(-100, 100), max_size=3),
)
masks = st.none() | st.sets(st.integers(0, VOCAB - 1), max_size=40)


def _logits(num_rows: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    """Rounded to bfloat16, as models give them: ties are common."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(num_rows, VOCAB, generator=generator) * scale).bfloat16().float()


def _mask(ids: set[int] | None) -> np.ndarray | None:
    if ids is None:
        return None
    words = np.zeros(-(-VOCAB // 32), np.uint32)
    for token_id in ids:
        words[token_id // 32] |= np.uint32(1 << token_id % 32)
    return words.view(np.int32)


def _row(
    sampling: Sampling,
    seed: int = 1,
    index: int = 0,
    output_ids: tuple[int, ...] = (),
    context_ids: tuple[int, ...] = (),
    allowed: set[int] | None = None,
    banned_ids: tuple[int, ...] = (),
    num_logprobs: int | None = None,
) -> SampleRow:
    return SampleRow(
        sampling, seed, index, output_ids, context_ids, _mask(allowed), banned_ids, num_logprobs
    )


def _one(logits: torch.Tensor, row: SampleRow) -> Sampled:
    (sampled,) = SAMPLER.sample(logits.view(1, -1), [row])
    return sampled


def _naive_support(logits: np.ndarray, sampling: Sampling) -> dict[int, float]:
    """Probability of every id that the filters leave, by sorting everything in float64."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    order = [i for i in order if logits[i] > -np.inf]
    if sampling.top_k > 0:
        order = order[: sampling.top_k]
    weights = np.exp((logits[order].astype(np.float64) - logits[order[0]]) / sampling.temperature)
    probs = weights / weights.sum()
    kept = len(order)
    if sampling.top_p < 1.0:
        kept = next((n + 1 for n, c in enumerate(probs.cumsum()) if c >= sampling.top_p), kept)
    keep = [n for n in range(kept) if probs[n] >= sampling.min_p * probs[0]]
    total = probs[keep].sum()
    return {order[n]: float(probs[n] / total) for n in keep}


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(samplings, masks, st.lists(st.integers(0, VOCAB - 1), max_size=8), st.integers(0, 2**64 - 1))
def test_a_draw_is_never_outside_the_mask(sampling, allowed, banned, seed) -> None:
    row = _row(sampling, seed, allowed=allowed, banned_ids=tuple(banned))
    token = _one(_logits(1, seed % 97), row).token_id
    open_ids = (set(range(VOCAB)) if allowed is None else allowed) - set(banned)
    assert (token is None) == (not open_ids)
    assert token is None or token in open_ids


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(samplings, masks, st.integers(0, 2**64 - 1)), min_size=1, max_size=12))
def test_a_row_draws_the_same_bits_alone_and_in_any_batch(settings_of_rows) -> None:
    logits = _logits(len(settings_of_rows), seed=len(settings_of_rows))
    rows = [
        _row(sampling, seed, n, (3, 3, 8), (3, 3, 8, 1), allowed, num_logprobs=n % 4)
        for n, (sampling, allowed, seed) in enumerate(settings_of_rows)
    ]
    together = SAMPLER.sample(logits, rows)
    assert together == [_one(logits[n], row) for n, row in enumerate(rows)]
    assert SAMPLER.sample(logits.flip(0), rows[::-1]) == together[::-1]


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from([0.3, 1.0, 2.5]),
    st.sampled_from([-1, 1, 3, 70, 5000]),
    st.sampled_from([1.0, 0.95, 0.5, 0.01]),
    st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    st.integers(0, 1000),
)
def test_every_draw_is_one_that_the_naive_filters_leave(
    temperature, top_k, top_p, min_p, n
) -> None:
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    logits = _logits(1, n, scale=[0.01, 1.0, 6.0][n % 3])
    support = _naive_support(logits[0].numpy(), sampling)
    drawn = {
        sampled.token_id
        for sampled in SAMPLER.sample(
            logits.expand(64, -1), [_row(sampling, n, index) for index in range(64)]
        )
    }
    assert drawn <= set(support)


DISTRIBUTIONS = {
    "plain": Sampling(),
    "hot": Sampling(temperature=2.0),
    "top-k": Sampling(top_k=5),
    "top-p": Sampling(top_p=0.6),
    "min-p": Sampling(min_p=0.1),
    "all": Sampling(temperature=0.8, top_k=9, top_p=0.9, min_p=0.02),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_draws_are_distributed_as_the_filtered_softmax(name: str) -> None:
    sampling, num_draws = DISTRIBUTIONS[name], 6000
    logits = torch.full((300,), -torch.inf)
    logits[torch.arange(20) * 15] = _logits(1)[0, :20]  # over two blocks of the inverse transform
    rows = [_row(sampling, 5, index) for index in range(num_draws)]
    counts = Counter(s.token_id for s in SAMPLER.sample(logits.expand(num_draws, -1), rows))
    expected = _naive_support(logits.numpy(), sampling)
    assert set(counts) <= set(expected)
    rare = sum(p for p in expected.values() if p * num_draws < 5)
    chi_square = sum(
        (counts[i] - p * num_draws) ** 2 / (p * num_draws)
        for i, p in expected.items()
        if p * num_draws >= 5
    )
    assert rare < 0.05
    assert chi_square < 43.9  # at most 19 degrees of freedom, one in a thousand


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.lists(st.integers(0, 9), max_size=12),
    st.lists(st.integers(0, 9), max_size=12),
    st.sampled_from([0.0, 0.5, -1.0]),
    st.sampled_from([0.0, 1.25]),
    st.sampled_from([1.0, 2.0, 0.5]),
    st.dictionaries(st.integers(0, 12), st.sampled_from([-3.0, 4.5]), max_size=4),
)
def test_penalties_follow_the_naive_formula(
    output, prompt, frequency, presence, repetition, bias
) -> None:
    logits = _logits(1)[0, :10].numpy().copy()
    expected = [float(x) for x in logits]
    for i in range(10):
        expected[i] += bias.get(i, 0.0)
        expected[i] -= frequency * output.count(i) + presence * (i in output)
        if i in [*prompt, *output]:
            expected[i] = expected[i] / repetition if expected[i] > 0 else expected[i] * repetition
    sampling = Sampling(
        frequency_penalty=frequency,
        presence_penalty=presence,
        repetition_penalty=repetition,
        logit_bias=bias,
    )
    adjust(logits, _row(sampling, output_ids=tuple(output), context_ids=(*prompt, *output)))
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_greedy_takes_the_lowest_of_equal_ids_even_at_the_end_of_long_rows() -> None:
    logits = torch.zeros(3, 50_000)
    logits[1, 49_000:] = 1.0
    logits[2, [17, 40_000]] = 2.0
    rows = [_row(Sampling(temperature=0.0))] * 3
    assert [s.token_id for s in SAMPLER.sample(logits, rows)] == [0, 49_000, 17]


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(top_k=2), {7, 40}),
        (Sampling(top_p=0.3), {7}),
        (Sampling(min_p=1.0), {7, 40, 90}),
    ],
    ids=["top-k", "top-p", "min-p"],
)
def test_a_filter_cuts_a_tie_by_id(sampling: Sampling, kept: set[int]) -> None:
    logits = torch.full((100,), -5.0)
    logits[[90, 40, 7]] = 5.0
    rows = [_row(sampling, index=n) for n in range(60)]
    assert {s.token_id for s in SAMPLER.sample(logits.expand(60, -1), rows)} == kept


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nothing_to_draw_is_none_and_not_nan(temperature: float) -> None:
    sampling = Sampling(temperature=temperature)
    logits = _logits(1)[0]
    assert _one(logits, _row(sampling, allowed=set(), num_logprobs=2)) == Sampled(None, None)
    assert _one(logits, _row(sampling, allowed={5}, banned_ids=(5,))).token_id is None
    assert _one(logits * torch.nan, _row(sampling)).token_id is None
    rows = [_row(sampling, allowed=set()), _row(sampling, allowed={6}), _row(sampling)]
    tokens = [s.token_id for s in SAMPLER.sample(logits.expand(3, -1), rows)]
    assert tokens[:2] == [None, 6]
    assert tokens[2] == _one(logits, _row(sampling)).token_id


def test_a_mask_may_be_longer_than_the_vocabulary_and_its_bits_count_from_the_lowest() -> None:
    mask = np.array([1 << 3, -1, -1], np.int32)
    assert np.flatnonzero(allowed_ids(mask, 34)).tolist() == [3, 32, 33]
    assert np.flatnonzero(allowed_ids(mask[:1], 34)).tolist() == [3]


def test_logits_are_left_as_they_are() -> None:
    logits = _logits(2)
    before = logits.clone()
    SAMPLER.sample(logits, [_row(Sampling(presence_penalty=1.0), output_ids=(1,), allowed={1})] * 2)
    assert torch.equal(logits, before)


def test_logprobs_are_the_models_own_in_spite_of_bias_mask_and_temperature() -> None:
    logits = _logits(1)[0]
    expected = torch.log_softmax(logits.double(), -1)
    row = _row(Sampling(temperature=0.2, logit_bias={8: 50.0}), allowed={8, 9, 10}, num_logprobs=3)
    sampled = _one(logits, row)
    assert sampled.token_id == 8
    assert sampled.logprobs is not None
    assert sampled.logprobs.logprob == pytest.approx(float(expected[8]), abs=1e-5)
    best = sorted(range(VOCAB), key=lambda i: (-float(logits[i]), i))[:3]
    assert [token for token, _ in sampled.logprobs.top] == best
    assert [value for _, value in sampled.logprobs.top] == pytest.approx(
        [float(expected[i]) for i in best], abs=1e-5
    )


def test_log_probs_answers_in_order_with_the_same_bits_for_any_company() -> None:
    logits = _logits(70)
    queries = [(69, 3, 0), (0, 999, 2), (69, 4, 1), (33, 0, 0)]
    answers = log_probs(logits, queries)
    for (row, token, num_top), answer in zip(queries, answers, strict=True):
        assert log_probs(logits[row : row + 1], [(0, token, num_top)]) == [answer]
        expected = float(torch.log_softmax(logits[row].double(), -1)[token])
        assert answer.logprob == pytest.approx(expected, abs=1e-5)
        assert len(answer.top) == num_top
    assert log_probs(logits, []) == []


def test_rows_and_logits_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="2 rows of logits for 1 rows"):
        SAMPLER.sample(_logits(2), [_row(Sampling())])
    assert SAMPLER.sample(_logits(0), []) == []
