"""Every way in which the embedded model is computed predicts a text as float32 does.

A short text: `tests/bench/accuracy.py` measures a long one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
import torch
from tests.bench.accuracy import compare, exact_model
from tests.bench.corpus import docstrings
from tests.kernels.native import AVAILABLE, library

from furcate.kernels.library import Pool
from furcate.runtime.config import ModelConfig
from furcate.runtime.model.catalog import ensure
from furcate.runtime.model.load import load_model, load_native_model
from furcate.runtime.scheduler.plan import StepPlan
from furcate.runtime.server.text import load_text

if TYPE_CHECKING:
    from furcate.kernels.structures import KVType
    from furcate.runtime.engine.batch import ForwardBatch
    from furcate.runtime.model.native_weights import Matmul

pytestmark = [pytest.mark.slow, pytest.mark.smollm2]

NUM_TOKENS = 300


class Limits(NamedTuple):
    change: float  # of the perplexity
    kl: float
    top1: float


# Wider than what a long text gives, since these are few tokens; a mistake leaves far more.
NATIVE: dict[tuple[Matmul, KVType], Limits] = {
    ("int8", "bf16"): Limits(0.02, 0.006, 0.95),
    ("int8", "int8"): Limits(0.03, 0.008, 0.95),
    ("bf16", "bf16"): Limits(0.01, 0.001, 0.97),
    ("fp32", "bf16"): Limits(0.005, 0.0003, 0.97),
}


class Recorded:
    """Says again what a model said of a text."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.vocab_size = logits.shape[1]
        self.max_context = NUM_TOKENS
        self.kv_bytes_per_token = 0
        self._logits = logits

    def allocate(self, num_pages: int, page_size: int) -> None:
        pass

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        return self._logits[batch.positions[batch.logit_indices]]


@pytest.fixture(scope="module")
def ids() -> list[int]:
    codec = load_text(ModelConfig(name="smollm2")).codec
    return codec.encode("\n\n".join(docstrings()[:8]))[:NUM_TOKENS]


@pytest.fixture(scope="module")
def exact(ids: list[int]) -> Recorded:
    model = exact_model(ensure("smollm2"))
    num_pages = -(-NUM_TOKENS // 16)
    model.allocate(num_pages, 16)
    plan = StepPlan(step=1, budget_tokens=NUM_TOKENS)
    plan.add_row(ids, 0, torch.arange(num_pages).int().numpy(), NUM_TOKENS)
    return Recorded(model.forward(plan.batch()))


def test_the_reference_in_bfloat16_predicts_as_float32_does(
    exact: Recorded, ids: list[int]
) -> None:
    accuracy = compare(exact, load_model(ensure("smollm2"), "bfloat16"), ids)
    assert accuracy.tokens == NUM_TOKENS - 1
    assert accuracy.top1 >= 0.95
    assert abs(accuracy.change) <= 0.01
    assert 0 < accuracy.kl_mean <= 0.003


@pytest.mark.parametrize(("matmul", "kv_type"), NATIVE, ids=["-".join(pair) for pair in NATIVE])
def test_native_kernels_predict_as_float32_does(
    exact: Recorded, ids: list[int], matmul: Matmul, kv_type: KVType
) -> None:
    pool = Pool(library(AVAILABLE[0]), 1)
    model = load_native_model(ensure("smollm2"), pool, matmul, kv_type)
    try:
        accuracy = compare(exact, model, ids)
    finally:
        model.close()
    limits = NATIVE[matmul, kv_type]
    assert accuracy.top1 >= limits.top1
    assert abs(accuracy.change) <= limits.change
    assert 0 < accuracy.kl_mean <= limits.kl
