"""Both forms of latent attention compute the same; the absorbed one keeps less."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.fakes.native_models import Row, logits_of

from furcate.runtime.model.checkpoint import open_checkpoint
from furcate.runtime.model.config import LatentConfig
from furcate.runtime.model.decoder import load_decoder

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("transformers")

from tests.fakes.families import FAMILIES, VOCAB_SIZE

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["deepseek v2", "deepseek v2, lite", "deepseek v3"])
def test_the_absorbed_form_computes_what_the_plain_one_does(tmp_path: Path, name: str) -> None:
    family = FAMILIES[name]
    checkpoint = open_checkpoint(family.save(tmp_path, family.model()))
    attention = checkpoint.config.attention
    assert isinstance(attention, LatentConfig)
    ids = np.random.default_rng(0).integers(0, VOCAB_SIZE, 300).astype(np.int32)
    logits, costs = {}, {}
    for form in ("absorbed", "plain"):
        config = replace(checkpoint.config, attention=replace(attention, form=form))
        model = load_decoder(config, checkpoint.tensors, torch.float32)
        model.allocate(32, 16)
        (logits[form],) = logits_of(model, [Row(ids, 0, range(20))])
        costs[form] = model.kv_bytes_per_token
    difference = np.abs(logits["absorbed"] - logits["plain"]).max()
    assert 0 < difference <= 1e-4 * np.abs(logits["plain"]).max()
    num_layers, num_heads = 2, 4
    assert costs["absorbed"] == num_layers * (24 + 8) * 4
    assert costs["plain"] == num_layers * num_heads * 2 * (16 + 8) * 4
