"""Native draws of every tier against the Python sampler, and against naive formulas."""

from __future__ import annotations

from array import array
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.kernels.native import AVAILABLE, TIERS, library, pool

from furcate.protocol.sampling import Sampling
from furcate.runtime.sample.batch import Alternatives, Sampled, SampleRow
from furcate.runtime.sample.native import NativeSampler
from furcate.runtime.sample.rng import uniform
from furcate.runtime.sample.sampler import Sampler, log_probs

if TYPE_CHECKING:
    from collections.abc import Sequence

OPS = ("sample",)
VOCAB = 1000
PYTHON = Sampler()

every_tier = pytest.mark.parametrize("tier", TIERS)


def _native(tier: str, vocab_size: int, num_threads: int = 2) -> NativeSampler:
    return NativeSampler(library(tier, *OPS), pool(tier, num_threads, *OPS), vocab_size)


def _sample(
    tier: str, logits: torch.Tensor, rows: Sequence[SampleRow], num_threads: int = 2
) -> list[Sampled]:
    """One draw for each row of logits, or all from the only one."""
    sampler = _native(tier, logits.shape[1], num_threads)
    is_shared = logits.shape[0] == 1
    packed = sampler.pack([(0 if is_shared else n, row) for n, row in enumerate(rows)])
    return sampler.unpack_draws(packed, sampler.run(logits.numpy(), packed)[0])


def _logits(
    num_rows: int, vocab_size: int = VOCAB, seed: int = 0, scale: float = 3.0
) -> torch.Tensor:
    """Rounded to bfloat16, as models give them: ties are common."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(num_rows, vocab_size, generator=generator) * scale).bfloat16().float()


def _row(
    sampling: Sampling,
    seed: int = 1,
    index: int = 0,
    output_ids: Sequence[int] = (),
    context_ids: Sequence[int] = (),
    mask: np.ndarray | None = None,
    banned_ids: tuple[int, ...] = (),
    num_logprobs: int | None = None,
) -> SampleRow:
    return SampleRow(sampling, seed, index, output_ids, context_ids, mask, banned_ids, num_logprobs)


def _mask(allowed: Sequence[int], vocab_size: int = VOCAB) -> np.ndarray:
    bits = np.zeros(-(-vocab_size // 32) * 32, np.uint8)
    bits[list(allowed)] = 1
    return np.packbits(bits, bitorder="little").view(np.int32)


# What must agree exactly

GREEDY = Sampling(temperature=0.0)
HEAVY = Sampling(
    temperature=0.0, frequency_penalty=0.7, presence_penalty=-0.3, repetition_penalty=1.3
)
EXACT = {
    "greedy": _row(GREEDY),
    "few allowed": _row(GREEDY, mask=_mask([5, 31, 32, 700, 999])),
    "one allowed": _row(GREEDY, mask=_mask([999])),
    "all allowed": _row(GREEDY, mask=_mask(range(VOCAB))),
    "nothing allowed": _row(GREEDY, mask=_mask([])),
    "short mask": _row(GREEDY, mask=np.array([-1, 1], np.int32)),
    "long mask": _row(GREEDY, mask=np.full(40, -1, np.int32)),
    "banned": _row(GREEDY, banned_ids=(1, 999, 5000)),
    "allowed and banned": _row(GREEDY, mask=_mask([5, 700]), banned_ids=(5,)),
    "all banned": _row(GREEDY, mask=_mask([5, 700]), banned_ids=(700, 5)),
    "bias": _row(Sampling(temperature=0.0, logit_bias={3: 100.0, 999: -100.0, 5000: 9.0})),
    "penalties": _row(HEAVY, output_ids=[4, 4, 9], context_ids=array("i", range(0, 900, 3))),
    "penalties of nothing": _row(HEAVY),
    "everything": _row(
        HEAVY,
        output_ids=array("i", [8, 8, 8]),
        context_ids=list(range(500)) * 2,
        mask=_mask(range(0, VOCAB, 3)),
        banned_ids=(0, 3, 6),
    ),
    "hot, one allowed": _row(Sampling(), mask=_mask([640])),
    "hot, nothing allowed": _row(Sampling(), mask=_mask([])),
    "hot, all banned": _row(Sampling(top_p=0.5), mask=_mask([9]), banned_ids=(9,)),
    "cold": _row(Sampling(temperature=1e-300)),
    "one of the best": _row(Sampling(top_k=1)),
    "almost no mass": _row(Sampling(top_p=1e-9)),
}


@every_tier
@pytest.mark.parametrize("name", EXACT)
def test_a_draw_without_chance_is_the_python_samplers(tier: str, name: str) -> None:
    logits = _logits(40)
    rows = [EXACT[name]] * 40
    assert _sample(tier, logits, rows) == PYTHON.sample(logits, rows)


@every_tier
@pytest.mark.parametrize("broken", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 17, 256, 999])
def test_broken_logits_are_told_as_by_the_python_sampler(
    tier: str, place: int, broken: float
) -> None:
    logits = _logits(1)
    logits[0, place] = broken
    allowed = _mask([5, 6, place])
    rows = [
        *EXACT.values(),
        _row(Sampling(), mask=allowed),
        _row(GREEDY, mask=allowed),
        _row(Sampling(top_p=0.01), banned_ids=(place,)),
        _row(GREEDY, banned_ids=(place,)),
        _row(Sampling(top_k=1), num_logprobs=None),
    ]
    expected = PYTHON.sample(logits.expand(len(rows), -1), rows)
    assert _sample(tier, logits, rows) == expected


@every_tier
def test_a_row_of_nothing_is_broken(tier: str) -> None:
    logits = torch.full((1, VOCAB), -torch.inf)
    rows = [_row(GREEDY), _row(Sampling()), _row(GREEDY, mask=_mask([3]), num_logprobs=2)]
    assert _sample(tier, logits, rows) == [Sampled(None, None, True)] * 3


@every_tier
@pytest.mark.parametrize("vocab_size", [1, 15, 16, 17, 255, 256, 257, 511, 50_000])
def test_rows_of_every_length_find_their_last_and_first_ids(tier: str, vocab_size: int) -> None:
    logits = torch.zeros(4, vocab_size)
    logits[1, -1] = 1.0
    logits[2] = -3e38
    logits[3, -1] = -1.0
    rows = [
        _row(GREEDY),
        _row(GREEDY),
        _row(GREEDY, mask=_mask([vocab_size - 1], vocab_size)),
        _row(Sampling(top_k=1)),
    ]
    assert _sample(tier, logits, rows) == PYTHON.sample(logits, rows)
    last = [_row(GREEDY, mask=_mask([vocab_size - 1], vocab_size))] * 4
    assert [s.token_id for s in _sample(tier, logits, last)] == [vocab_size - 1] * 4


@every_tier
@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(top_k=2), {7, 40}),
        (Sampling(top_p=0.3), {7}),
        (Sampling(top_p=0.5), {7, 40}),
        (Sampling(min_p=1.0), {7, 40, 90}),
        (Sampling(top_k=5000, min_p=0.5), {7, 40, 90}),
        (Sampling(top_p=0.5, top_k=3, min_p=1.0), {7, 40}),
    ],
    ids=["top-k", "top-p", "top-p of two", "min-p", "large top-k", "all"],
)
def test_a_filter_cuts_a_tie_by_id(tier: str, sampling: Sampling, kept: set[int]) -> None:
    logits = torch.full((1, 100), -5.0)
    logits[0, [90, 40, 7]] = 5.0
    rows = [_row(sampling, index=n) for n in range(60)]
    assert {s.token_id for s in _sample(tier, logits, rows)} == kept


# What agrees but for the last bits of sums

CHANCE = {
    "plain": Sampling(),
    "hot": Sampling(temperature=2.5),
    "cool": Sampling(temperature=0.3),
    "top-k": Sampling(top_k=5),
    "top-k of many": Sampling(top_k=300, temperature=2.0),
    "top-k of all": Sampling(top_k=5000),
    "top-p": Sampling(top_p=0.6),
    "top-p of many": Sampling(top_p=0.95, temperature=2.5),
    "min-p": Sampling(min_p=0.1),
    "min-p of many": Sampling(min_p=1e-4, temperature=2.0),
    "top-k and top-p": Sampling(top_k=40, top_p=0.9),
    "all": Sampling(temperature=0.8, top_k=9, top_p=0.9, min_p=0.02),
    "penalties": Sampling(
        presence_penalty=1.0, frequency_penalty=0.1, repetition_penalty=1.2, top_p=0.9
    ),
}


@every_tier
@pytest.mark.parametrize("name", CHANCE)
def test_the_same_random_number_gives_the_python_samplers_token(tier: str, name: str) -> None:
    """1,500 draws from rows of different shapes, one of them flat: all alike but one at most."""
    differing = 0
    for n, scale in enumerate((0.01, 2.0, 6.0)):
        logits = _logits(1, seed=n, scale=scale)
        rows = [_row(CHANCE[name], n, index, [1, 2, 2], range(90)) for index in range(500)]
        ours = _sample(tier, logits, rows)
        theirs = PYTHON.sample(logits.expand(len(rows), -1), rows)
        differing += sum(a.token_id != b.token_id for a, b in zip(ours, theirs, strict=True))
    assert differing <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "top-k", "top-p", "top-p of many", "min-p"])
def test_draws_from_a_whole_vocabulary_are_the_python_samplers(name: str) -> None:
    """One row is flat: its blocks weigh alike, and thousands of ids are left by the filters."""
    differing = 0
    for n, scale in enumerate((0.5, 3.0)):
        logits = _logits(1, 49_152, seed=n, scale=scale)
        rows = [_row(CHANCE[name], n, index) for index in range(100)]
        ours = _sample(AVAILABLE[0], logits, rows)
        theirs = PYTHON.sample(logits.expand(len(rows), -1), rows)
        differing += sum(a.token_id != b.token_id for a, b in zip(ours, theirs, strict=True))
    assert differing <= 1


def _naive_support(logits: np.ndarray, sampling: Sampling) -> dict[int, float]:
    """Probability of every id that the filters leave, by sorting everything in float64."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    if sampling.top_k > 0:
        order = order[: sampling.top_k]
    weights = np.exp((logits[order].astype(np.float64) - logits[order[0]]) / sampling.temperature)
    cumulated = weights.cumsum() / weights.sum()
    kept = len(order)
    if sampling.top_p < 1.0:
        kept = min(int(np.searchsorted(cumulated, sampling.top_p)) + 1, kept)
    kept = min(kept, int((weights >= sampling.min_p).sum()))
    total = weights[:kept].sum()
    return {order[n]: float(weights[n] / total) for n in range(kept)}


@every_tier
@pytest.mark.parametrize("name", [name for name in CHANCE if name != "penalties"])
def test_draws_invert_the_filtered_distribution(tier: str, name: str) -> None:
    """Every draw lies where its random number does in the cumulated probabilities by id."""
    sampling = CHANCE[name]
    for size in (12, 300):
        logits = _logits(1, size, seed=size)
        rows = [_row(sampling, 5, index) for index in range(1000)]
        support = _naive_support(logits[0].numpy(), sampling)
        ids = sorted(support)
        ends = np.concatenate([[0.0], np.cumsum([support[i] for i in ids])])
        spans = dict(zip(ids, pairwise(ends), strict=True))
        for index, sampled in enumerate(_sample(tier, logits, rows)):
            assert sampled.token_id is not None
            low, high = spans[sampled.token_id]
            assert low - 1e-6 <= uniform(5, index) < high + 1e-6


# Bits


def _mixed_rows() -> list[SampleRow]:
    rows = [*EXACT.values()]
    rows += [_row(s, seed, seed, [1, 2, 2], range(90)) for seed, s in enumerate(CHANCE.values())]
    return [
        _row(r.sampling, r.seed, r.index, r.output_ids, r.context_ids, r.mask, r.banned_ids, n % 4)
        for n, r in enumerate(rows)
    ]


@every_tier
def test_a_row_draws_the_same_bits_alone_and_in_any_company(tier: str) -> None:
    rows = _mixed_rows()
    logits = _logits(len(rows))
    together = _sample(tier, logits, rows)
    alone = [_sample(tier, logits[n : n + 1], [row])[0] for n, row in enumerate(rows)]
    assert together == alone
    assert _sample(tier, logits.flip(0), rows[::-1], num_threads=3) == together[::-1]
    assert _sample(tier, logits, rows, num_threads=1) == together


def test_every_tier_draws_the_same_bits() -> None:
    rows = _mixed_rows() * 5
    for n, row in enumerate(rows):
        row.seed = n * 2**40 - 7
    logits = _logits(len(rows), scale=2.0)
    first, *others = [_sample(tier, logits, rows) for tier in AVAILABLE]
    for other in others:
        assert other == first


# Log-probabilities


def _assert_close(
    ours: Sequence[Alternatives | None], theirs: Sequence[Alternatives | None]
) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert a.logprob == pytest.approx(b.logprob, abs=1e-5)
            assert [i for i, _ in a.top] == [i for i, _ in b.top]
            assert [p for _, p in a.top] == pytest.approx([p for _, p in b.top], abs=1e-5)


@every_tier
def test_logprobs_of_draws_are_the_models_own(tier: str) -> None:
    rows = _mixed_rows()
    logits = _logits(len(rows))
    ours, theirs = _sample(tier, logits, rows), PYTHON.sample(logits, rows)
    alike = [n for n in range(len(rows)) if ours[n].token_id == theirs[n].token_id]
    assert len(alike) >= len(rows) - 1
    _assert_close([ours[n].logprobs for n in alike], [theirs[n].logprobs for n in alike])


@every_tier
@pytest.mark.parametrize("vocab_size", [1, 3, 40, 1000, 20_000])
def test_scores_are_those_of_the_python_sampler(tier: str, vocab_size: int) -> None:
    logits = _logits(6, vocab_size)
    queries = [(5, 0, 0), (0, vocab_size - 1, 20), (5, vocab_size // 2, 3), (3, 0, 1)]
    sampler = _native(tier, vocab_size)
    packed = sampler.pack([], queries)
    drawn, scored = sampler.run(logits.numpy(), packed)
    sampled, ours = sampler.unpack_draws(packed, drawn), sampler.unpack_scores(packed, scored)
    assert sampled == []
    _assert_close(ours, log_probs(logits, queries))


@every_tier
def test_scores_of_a_row_that_is_not_made_of_numbers_are_none(tier: str) -> None:
    logits = _logits(3)
    logits[0, 7], logits[1, 7], logits[2] = torch.nan, torch.inf, -torch.inf
    sampler = _native(tier, VOCAB)
    packed = sampler.pack([], [(n, 3, 2) for n in range(3)])
    scores = sampler.unpack_scores(packed, sampler.run(logits.numpy(), packed)[1])
    assert all(np.isnan(score.logprob) and score.top == () for score in scores)


@every_tier
def test_the_likeliest_are_fewer_where_the_rest_is_impossible(tier: str) -> None:
    logits = torch.full((1, VOCAB), -torch.inf)
    logits[0, [900, 3]] = 1.0
    sampler = _native(tier, VOCAB)
    packed = sampler.pack([], [(0, 900, 5), (0, 4, 1)])
    scored = sampler.run(logits.numpy(), packed)[1]
    both, impossible = sampler.unpack_scores(packed, scored)
    half = np.log(0.5)
    _assert_close([both], [Alternatives(half, ((3, half), (900, half)))])
    assert impossible.logprob == -np.inf


# Packing


def test_what_a_draw_reads_may_grow_after_it_is_packed() -> None:
    sampler = _native(AVAILABLE[0], VOCAB)
    output = array("i", [4, 4])
    row = _row(Sampling(temperature=0.0, frequency_penalty=2.0), output_ids=output)
    logits = torch.zeros(1, VOCAB)
    logits[0, 4], logits[0, 9] = 5.0, 2.0
    packed = sampler.pack([(0, row)])
    output.extend([9] * 10_000)
    sampled = sampler.unpack_draws(packed, sampler.run(logits.numpy(), packed)[0])
    assert sampled[0].token_id == 9


def test_no_draws_and_no_scores_are_an_empty_answer() -> None:
    sampler = _native(AVAILABLE[0], VOCAB)
    packed = sampler.pack([])
    drawn, scored = sampler.run(_logits(1).numpy(), packed)
    assert sampler.unpack_draws(packed, drawn) == sampler.unpack_scores(packed, scored) == []


def test_logits_are_left_as_they_are() -> None:
    rows = _mixed_rows()
    logits = _logits(len(rows))
    before = logits.clone()
    _sample(AVAILABLE[0], logits, rows)
    assert torch.equal(logits, before)
