"""Parameters and bytes by a model's facts, against what transformers counts and kernels pack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest
from tests.fakes.families import FAMILIES

from furcate.kernels.library import Pool, load
from furcate.kernels.linear.weight import LinearWeight, StoredRows
from furcate.runtime.model.catalog import cache_home
from furcate.runtime.model.checkpoint import read_config
from furcate.runtime.model.size import (
    PACKED_BYTES,
    Stored,
    count_parameters,
    loaded_bytes,
    read_stored,
)

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, ROWS = 512, 64


@pytest.mark.parametrize("name", FAMILIES)
def test_parameters_are_those_that_transformers_counts(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    model = family.model()
    folder = family.save(tmp_path, model)
    config = read_config(folder)
    choices = sum(
        tensor.numel()
        for buffer, tensor in model.named_buffers()
        if buffer.endswith("e_score_correction_bias")
    )
    expected = sum(parameter.numel() for parameter in model.parameters()) + choices
    parameters = count_parameters(config)
    assert parameters.total == expected
    assert sum(tensor.num_values for tensor in read_stored(folder)) == expected
    has_experts = config.experts is not None
    assert (parameters.active < parameters.total) == has_experts


def test_a_token_is_multiplied_with_the_experts_that_it_uses(tmp_path: Path) -> None:
    family = FAMILIES["mixtral"]  # 2 of 4 experts, in 2 layers
    config = read_config(family.save(tmp_path, family.model()))
    parameters = count_parameters(config)
    assert parameters.total - parameters.active == 2 * 2 * 3 * 64 * 96


@pytest.mark.parametrize("kind", PACKED_BYTES)
def test_blocks_take_the_bytes_that_are_planned_for(kind: str) -> None:
    values, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    data = np.zeros(ROWS * WIDTH // values * size, np.uint8)
    with Pool(load("auto", cache_home() / "kernels"), 1) as pool:
        packed = LinearWeight.pack(pool, [StoredRows(kind, ROWS, data)], WIDTH, "q8")
        assert packed.num_bytes == ROWS * WIDTH // 32 * PACKED_BYTES[kind]
        packed.close()


def test_blocks_stay_blocks_where_they_are_kept(tmp_path: Path) -> None:
    family = FAMILIES["llama"]
    config = read_config(family.save(tmp_path, family.model()))
    table = config.vocab_size * config.hidden_size
    stored = (
        Stored("token_embd.weight", "Q8_0", (config.vocab_size, config.hidden_size), 34),
        Stored("blk.0.attn_q.weight", "Q4_0", (64, 64), 0),
        Stored("output_norm.weight", "F32", (64,), 0),
    )
    assert not config.tied_embeddings
    kept = 34 + 64 * 64 // 32 * 18 + 64 * 2
    assert loaded_bytes(stored, config, 2, keeps_blocks=True) == kept
    total = count_parameters(config).total
    assert loaded_bytes(stored, config, 4, keeps_blocks=False) == 4 * total
    assert total > table
