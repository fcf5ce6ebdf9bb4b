"""A file of any stored type becomes a model that computes what its weights say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.fakes.checkpoints import SPREAD, expanded, random_llama, random_tensor, write_llama

from furcate.runtime.model.load import load_model
from furcate.runtime.model.quantized import DEQUANTIZERS
from furcate.runtime.scheduler.plan import StepPlan

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.checkpoints import StoredTensor

    from furcate.runtime.model.load import Dtype

NUM_TOKENS = 37
MIXED = {"token_embd": "Q6_K", "attn_v": "Q6_K", "ffn_down": "Q5_0", "attn_q": "Q8_0"}


def logits_of(path: Path, tensors: dict[str, StoredTensor], dtype: Dtype) -> torch.Tensor:
    """Those of every position of one sequence."""
    model = load_model(write_llama(path, tensors), dtype)
    model.allocate(4, 16)
    plan = StepPlan(step=1, budget_tokens=NUM_TOKENS)
    ids = np.random.default_rng(1).integers(0, model.vocab_size, NUM_TOKENS).tolist()
    plan.add_row(ids, 0, np.arange(4, dtype=np.int32), NUM_TOKENS)
    return model.forward(plan.batch())


@pytest.mark.parametrize("kind", DEQUANTIZERS)
def test_random_weights_have_the_spread_that_is_asked_for(kind: str) -> None:
    values = random_tensor(kind, (16, 512), np.random.default_rng(0)).values
    assert abs(values.std() - SPREAD) < 0.1 * SPREAD
    assert abs(values.mean()) < 0.1 * SPREAD


@pytest.mark.parametrize("kind", DEQUANTIZERS)
def test_a_model_has_the_logits_of_its_weights_in_float32(tmp_path: Path, kind: str) -> None:
    tensors = random_llama(kind, tied=kind != "Q6_K")
    logits = logits_of(tmp_path / "stored.gguf", tensors, "float32")
    assert logits.shape == (NUM_TOKENS, 67)
    assert logits.std() > 0.1
    assert torch.equal(logits, logits_of(tmp_path / "f32.gguf", expanded(tensors), "float32"))


def test_a_file_may_mix_types(tmp_path: Path) -> None:
    tensors = random_llama("Q4_K", MIXED)
    assert {tensor.kind for tensor in tensors.values()} == {"Q4_K", "F32", *MIXED.values()}
    logits = logits_of(tmp_path / "stored.gguf", tensors, "float32")
    assert torch.equal(logits, logits_of(tmp_path / "f32.gguf", expanded(tensors), "float32"))


@pytest.mark.parametrize("kind", ["Q2_K", "Q5_1", "Q6_K"])
def test_bfloat16_is_near_float32_in_every_type(tmp_path: Path, kind: str) -> None:
    tensors = random_llama(kind)
    exact = logits_of(tmp_path / "m.gguf", tensors, "float32")
    near = logits_of(tmp_path / "m.gguf", tensors, "bfloat16")
    assert (near - exact).square().mean().sqrt() < 0.03 * exact.std()
