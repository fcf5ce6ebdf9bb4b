"""Weights in few bits with scales beside them: their values, and models that have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.fakes.native_models import Row, logits_of

from furcate.errors import ModelFileError
from furcate.runtime.model.load import load_model
from furcate.runtime.model.scaled import MX_VALUES, find

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file
from tests.fakes.families import FAMILIES, VOCAB_SIZE

IDS = np.random.default_rng(0).integers(0, VOCAB_SIZE, 40).astype(np.int32)


def test_float8_is_multiplied_by_the_factor_of_its_block() -> None:
    values = torch.randn(130, 300).to(torch.float8_e4m3fn)
    scales = torch.rand(2, 3)
    found = find({"w": values, "w_scale_inv": scales}, "w", -1)
    assert found is not None
    for row, column in [(0, 0), (127, 127), (128, 128), (129, 299), (5, 256)]:
        expected = values[row, column].float() * scales[row // 128, column // 128]
        assert found.tensor[row, column] == expected


def test_mxfp4_is_two_values_a_byte_under_one_exponent() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 16, (3, 4, 2, 32), generator=generator)
    exponents = torch.randint(120, 134, (3, 4, 2), generator=generator)
    blocks = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8)
    state = {"w_blocks": blocks, "w_scales": exponents.to(torch.uint8)}
    table = torch.tensor([*MX_VALUES, *(-value for value in MX_VALUES)])
    expected = (table[codes] * 2.0 ** (exponents[..., None] - 127.0)).flatten(2)
    for expert in range(3):
        found = find(state, "w", expert)
        assert found is not None
        assert torch.equal(found.tensor[found.expert], expected[expert].t())


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"w": torch.ones(4, 4).to(torch.float8_e4m3fn)}, "no tensor 'w_scale_inv'"),
        (
            {"w": torch.ones(4, 4).to(torch.float8_e4m3fn), "w_scale_inv": torch.ones(2, 1)},
            r"'w' has scales \[2, 1\], .* needs \[1, 1\]",
        ),
        ({"w_blocks": torch.zeros(1, 2, 1, 16)}, "no tensor 'w_scales'"),
        (
            {"w_blocks": torch.zeros(1, 2, 1, 8), "w_scales": torch.zeros(1, 2, 1)},
            r"blocks \[1, 2, 1, 8\] and scales \[1, 2, 1\]; they must be",
        ),
    ],
)
def test_scales_that_do_not_fit_are_told(state: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        find(state, "w", 0)


def _logits(folder: Path) -> np.ndarray:
    model = load_model(folder, "float32")
    model.allocate(8, 16)
    return logits_of(model, [Row(IDS, 0, range(8))])[0]


def _save_both(folder: Path, plain: dict, packed: dict) -> tuple[np.ndarray, np.ndarray]:
    """The logits of the same weights, as floats and packed."""
    path = folder / "model.safetensors"
    results = []
    for state in (plain, packed):
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
        results.append(_logits(folder))
    return results[0], results[1]


@pytest.mark.slow
def test_a_model_in_float8_has_the_logits_of_its_values(tmp_path: Path) -> None:
    family = FAMILIES["deepseek v3"]
    folder = family.save(tmp_path, family.model())
    plain = load_file(folder / "model.safetensors")
    packed = {}
    for name, tensor in list(plain.items()):
        if tensor.ndim < 2 or "embed" in name or "lm_head" in name or "mlp.gate." in name:
            packed[name] = tensor
            continue
        scale = torch.tensor([[tensor.abs().max() / 400]])
        packed[name] = (tensor / scale).to(torch.float8_e4m3fn)
        packed[f"{name}_scale_inv"] = scale
        plain[name] = packed[name].float() * scale
    expected, found = _save_both(folder, plain, packed)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_experts_in_mxfp4_have_the_logits_of_their_values(tmp_path: Path) -> None:
    family = FAMILIES["gpt-oss"]
    folder = family.save(tmp_path, family.model())
    plain = load_file(folder / "model.safetensors")
    packed = dict(plain)
    table = torch.tensor([*MX_VALUES, *(-value for value in MX_VALUES)])
    generator = torch.Generator().manual_seed(0)
    for name, tensor in list(plain.items()):
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            continue
        experts, width, rows = tensor.shape
        codes = torch.randint(0, 16, (experts, rows, width // 32, 32), generator=generator)
        scales = torch.full((experts, rows, width // 32), 123, dtype=torch.uint8)
        del packed[name]
        blocks = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8)
        packed |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        plain[name] = (table[codes] / 16).flatten(2).transpose(1, 2)
    expected, found = _save_both(folder, plain, packed)
    np.testing.assert_array_equal(found, expected)
