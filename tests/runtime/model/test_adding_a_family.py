"""What CONTRIBUTING says about a new family, done once: a module's worth of facts, one line of the
registry, and the comparison with transformers.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.fakes.native_models import Row, logits_of

from furcate.runtime.model import checkpoint
from furcate.runtime.model.family import Family
from furcate.runtime.model.hf_decoder import read_attention, read_decoder, read_layers
from furcate.runtime.model.hf_names import HFNames
from furcate.runtime.model.load import load_model

if TYPE_CHECKING:
    from pathlib import Path

    from furcate.runtime.model.config import DecoderConfig
    from furcate.runtime.model.hf_config import HFConfig

pytest.importorskip("transformers")
from tests.fakes.families import FAMILIES
from tests.fakes.folders import configure

IDS = np.arange(5, 45, dtype=np.int32)


# The model's file: a llama that has a name of its own, and a setting for what it multiplies by.
def _config(config: HFConfig) -> DecoderConfig:
    llama = read_decoder(config, read_layers(config), read_attention(config))
    return replace(llama, logit_scale=config.number("loudness", 1.0))


FAMILY = Family("Invented", "logits times a number", _config, lambda _: HFNames())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of the family, whose line is in the registry."""
    known = MappingProxyType({**checkpoint.FAMILIES, "invented": FAMILY})
    monkeypatch.setattr(checkpoint, "FAMILIES", known)
    tiny = FAMILIES["llama"]
    saved = tiny.save(tmp_path, tiny.model())
    configure(saved, model_type="invented", loudness=2.0)
    return saved


def test_a_family_is_a_module_and_a_line(folder: Path) -> None:
    model = load_model(folder, "float32")
    model.allocate(8, 16)
    ours = logits_of(model, [Row(IDS, 0, range(8))])[0]
    with torch.inference_mode():
        theirs = FAMILIES["llama"].model()(torch.tensor(IDS).long()[None]).logits[0].numpy()
    np.testing.assert_allclose(ours, 2 * theirs[-len(ours) :], atol=1e-4)
