"""Records of native draws at the edge of what a caller may write. That draws are those of the
Python sampler is tested beside it."""

from __future__ import annotations

import numpy as np
import pytest

from furcate.kernels.sample.native import (
    PACK_SAMPLE_ROW,
    SAMPLE_ROW,
    SCORE_ROW,
    SampleKernel,
    SampleStatus,
)

from .native import TIERS, library, pool

every_tier = pytest.mark.parametrize("tier", TIERS)
VOCAB = 70


def kernel(tier: str, num_threads: int = 2) -> SampleKernel:
    return SampleKernel(library(tier, "sample"), pool(tier, num_threads, "sample"))


def greedy(count: int, **values: float) -> np.ndarray:
    """Records of draws from the first row of logits."""
    rows = np.zeros(count, SAMPLE_ROW)
    rows["top_p"] = rows["repetition_penalty"] = 1.0
    rows["num_top"] = -1
    for name, value in values.items():
        rows[name] = value
    return rows


def rising(count: int = 1) -> np.ndarray:
    return np.tile(np.arange(VOCAB, dtype=np.float32), (count, 1))


def test_a_record_packs_into_the_bytes_that_its_fields_have() -> None:
    fields = [n + 1 for n in range(len(SAMPLE_ROW.names or ()))]
    packed = np.frombuffer(PACK_SAMPLE_ROW.pack(*fields), SAMPLE_ROW)
    assert packed[0].tolist() == tuple(fields)


@every_tier
def test_ids_outside_the_vocabulary_are_passed_over(tier: str) -> None:
    ids = np.array([-1, VOCAB, 2**31 - 1, -(2**31), 69, 69], np.int32)
    bias = np.full(6, 1000.0, np.float32)
    bias[4:] = -1.0
    rows = greedy(4)
    address = ids.ctypes.data
    rows[0]["banned_ids"], rows[0]["num_banned"] = address, 6
    rows[1]["output_ids"], rows[1]["num_output"], rows[1]["presence_penalty"] = address, 6, 2.0
    rows[2]["context_ids"], rows[2]["num_context"] = address, 6
    rows[2]["repetition_penalty"] = 2.0
    rows[3]["bias_ids"], rows[3]["bias_values"] = address, bias.ctypes.data
    rows[3]["num_bias"] = 6
    drawn = kernel(tier).sample(rising(), rows)
    assert drawn.results["token_id"].tolist() == [68, 68, 68, 68]


@every_tier
def test_bits_of_a_mask_behind_the_vocabulary_say_nothing(tier: str) -> None:
    mask = np.array([0, 0, 0xFFFFFFFF & ~0b111111], np.uint32)  # ids from 70 on
    rows = greedy(2, mask=mask.ctypes.data)
    rows[1]["temperature"] = 1.0
    drawn = kernel(tier).sample(rising(), rows)
    assert drawn.results["token_id"].tolist() == [-1, -1]
    assert drawn.results["status"].tolist() == [SampleStatus.NOTHING_ALLOWED] * 2


@every_tier
def test_rows_name_their_logits_in_any_order_and_more_than_once(tier: str) -> None:
    logits = rising(3)
    logits[1] *= -1
    logits[2, 33] = 100.0
    rows = greedy(4)
    rows["logit"] = [2, 0, 1, 2]
    assert kernel(tier).sample(logits, rows).results["token_id"].tolist() == [33, 69, 0, 33]


@every_tier
def test_tops_are_written_for_the_rows_that_want_them(tier: str) -> None:
    rows = greedy(3)
    rows["num_top"] = [2, -1, 1]
    drawn = kernel(tier).sample(rising(), rows)
    assert drawn.top_ids[0].tolist() == [69, 68]
    assert drawn.top_ids[2, 0] == 69
    assert drawn.top_logprobs[2, 0] == drawn.results["logprob"][2] == drawn.top_logprobs[0, 0]
    assert np.isnan(drawn.results["logprob"][1])


@every_tier
def test_a_score_of_no_token_is_not_a_number(tier: str) -> None:
    rows = np.zeros(3, SCORE_ROW)
    rows["token_id"] = [-1, VOCAB, 69]
    logprobs = kernel(tier).score(rising(), rows).logprobs
    assert np.isnan(logprobs).tolist() == [True, True, False]


@every_tier
@pytest.mark.parametrize("top_k", [1, 2, 191, 192, 193, 3000, 49_152])
def test_top_k_of_a_flat_row_keeps_the_lowest_ids(tier: str, top_k: int) -> None:
    logits = np.zeros((1, 49_152), np.float32)
    rows = greedy(200, temperature=1.0, top_k=top_k)
    rows["index"] = np.arange(200)
    tokens = kernel(tier).sample(logits, rows).results["token_id"]
    assert 0 <= tokens.min()
    assert top_k * 0.9 - 1 <= tokens.max() < top_k


@every_tier
@pytest.mark.parametrize(
    ("spread", "temperature", "end"),
    [(1e-3, 5e-5, 24_576), (1e30, 5e28, 24_576), (1e-30, 1.0, 49_152)],
    ids=["small", "huge", "the weights are all one"],
)
def test_rows_of_any_scale_are_cut_at_their_weight(
    tier: str, spread: float, temperature: float, end: int
) -> None:
    """The even ids rank above the odd ones. Where they have all of the weight, top-p leaves the
    first half of them; where all weigh the same, all of them."""
    logits = np.zeros((1, 49_152), np.float32)
    logits[0, ::2] = spread
    rows = greedy(50, temperature=temperature, top_p=0.5)
    rows["index"] = np.arange(50)
    tokens = kernel(tier).sample(logits, rows).results["token_id"]
    assert not (tokens % 2).any()
    assert end * 0.9 < tokens.max() < end
