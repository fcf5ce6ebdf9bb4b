"""Every way in which the embedded model is computed predicts a text as float32 does.

A short text: `tests/bench/accuracy.py` measures a long one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.bench.accuracy import compare, torch_model
from tests.bench.corpus import docstrings

from furcate.runtime.config import ModelConfig
from furcate.runtime.model.catalog import ensure
from furcate.runtime.server.text import load_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from furcate.runtime.engine.batch import Model

pytestmark = [pytest.mark.slow, pytest.mark.smollm2]

NUM_TOKENS = 300
PATHS: dict[str, Callable[[Path], Model]] = {
    "torch-bf16": lambda path: torch_model(path, "bf16"),
}


@pytest.mark.parametrize("name", PATHS)
def test_the_likeliest_tokens_and_the_perplexity_are_those_of_float32(name: str) -> None:
    path = ensure("smollm2")
    codec = load_text(ModelConfig(name="smollm2")).codec
    ids = codec.encode("\n\n".join(docstrings()[:8]))[:NUM_TOKENS]
    accuracy = compare(torch_model(path, "fp32"), PATHS[name](path), ids)
    assert accuracy.tokens == NUM_TOKENS - 1
    assert accuracy.top1 >= 0.95
    assert abs(accuracy.change) <= 0.01
    assert 0 < accuracy.kl_mean <= 0.005
