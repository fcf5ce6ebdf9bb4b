"""Which families native kernels run, that they compute what the reference does, and what is said of
those they do not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.fakes.native_models import Row, logits_of
from tests.kernels.native import AVAILABLE, library

from furcate.kernels.library import Pool
from furcate.runtime.model.load import load_model, load_native_model, why_not_native

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("transformers")

from tests.fakes.families import FAMILIES, VOCAB_SIZE

pytestmark = pytest.mark.slow

IDS = np.random.default_rng(0).integers(0, VOCAB_SIZE, 300).astype(np.int32)
NATIVE = [
    *("llama", "mistral, whole", "llama, dynamic rope", "smollm3", "llama, yarn rope"),
    *("llama, llama3 rope, biases", "qwen2", "qwen3"),
]
NOT_NATIVE = {
    "mistral": "attention windows",
    "qwen2, window": "attention windows",
    "gemma2": "attention windows, capped scores, norms after sublayers, gelu_tanh gates, "
    "scaled or capped logits",
    "phi3": "attention windows",
    "olmo2": "norms across heads, norms after sublayers",
    "granite": "scaled residuals, scaled or capped logits",
    "mixtral": "experts",
    "deepseek v3": "latent attention",
}


@pytest.mark.parametrize("name", NATIVE)
def test_native_logits_are_near_the_reference(tmp_path: Path, name: str) -> None:
    family = FAMILIES[name]
    folder = family.save(tmp_path, family.model())
    assert why_not_native(folder) is None
    reference = load_model(folder, "float32")
    pool = Pool(library(AVAILABLE[0]), 2)
    native = load_native_model(folder, pool, "fp32")
    try:
        for model in (reference, native):
            model.allocate(32, 16)
        (expected,) = logits_of(reference, [Row(IDS, 0, range(20))])
        (found,) = logits_of(native, [Row(IDS, 0, range(20))])
    finally:
        native.close()
    # Keys and values are bfloat16 in one and float32 in the other.
    distance = np.sqrt(((found - expected) ** 2).mean()) / expected.std()
    assert distance < 0.015


@pytest.mark.parametrize("name", NOT_NATIVE)
def test_what_keeps_a_family_from_native_kernels_is_told(tmp_path: Path, name: str) -> None:
    family = FAMILIES[name]
    assert why_not_native(family.save(tmp_path, family.model())) == NOT_NATIVE[name]
