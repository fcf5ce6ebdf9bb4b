"""The small row kernels: their formulas, and that a row's bits do not depend on its company."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from furcate.kernels.clamped_swiglu import clamped_swiglu
from furcate.kernels.embedding import embed
from furcate.kernels.gelu_mul import gelu_mul
from furcate.kernels.rms_norm import rms_norm
from furcate.kernels.rope import rotate, rotation_table
from furcate.kernels.silu_mul import silu_mul

DTYPES = [torch.float32, torch.bfloat16]
WIDTHS = [2, 64, 576, 1000]
GATES = {"silu_mul": silu_mul, "gelu_mul": gelu_mul, "clamped_swiglu": clamped_swiglu}


def _random(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def test_embedding_takes_the_named_rows_in_order() -> None:
    table = _random(7, 3)
    ids = torch.tensor([6, 0, 6], dtype=torch.int32)
    assert torch.equal(embed(ids, table), table[[6, 0, 6]])


def test_embedding_of_an_id_outside_the_table_is_an_error() -> None:
    with pytest.raises(IndexError):
        embed(torch.tensor([7]), _random(7, 3))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_rms_norm_follows_its_formula(width: int, dtype: torch.dtype) -> None:
    x, weight = _random(5, width).to(dtype), _random(width, seed=1)
    wide = x.double()
    expected = wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    assert_close(rms_norm(x, weight, 1e-5, torch.float32).double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_silu_mul_follows_its_formula(width: int, dtype: torch.dtype) -> None:
    gate_up = (_random(5, 2 * width) * 4).to(dtype)
    gate, up = gate_up.double().chunk(2, -1)
    expected = (gate * torch.sigmoid(gate) * up).to(dtype)
    rtol = 1e-5 if dtype == torch.float32 else 2**-7
    assert_close(silu_mul(gate_up), expected, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_gelu_mul_follows_its_formula(width: int, dtype: torch.dtype) -> None:
    gate_up = (_random(5, 2 * width) * 4).to(dtype)
    gate, up = gate_up.double().chunk(2, -1)
    expected = (torch.nn.functional.gelu(gate, approximate="tanh") * up).to(dtype)
    rtol = 1e-5 if dtype == torch.float32 else 2**-7
    assert_close(gelu_mul(gate_up), expected, rtol=rtol, atol=2e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_clamped_swiglu_follows_its_formula(width: int, dtype: torch.dtype) -> None:
    gate_up = (_random(5, 2 * width) * 8).to(dtype)
    gate, up = gate_up.double().chunk(2, -1)
    gate, up = gate.clamp(max=7), up.clamp(-7, 7)
    expected = (gate * torch.sigmoid(1.702 * gate) * (up + 1)).to(dtype)
    rtol = 1e-5 if dtype == torch.float32 else 2**-7
    assert_close(clamped_swiglu(gate_up), expected, rtol=rtol, atol=2e-6)


def test_extreme_gates_of_the_others_are_their_limits_too() -> None:
    gate_up = torch.tensor([[-1e4, 1e4, 1.0, 1.0]])
    assert gelu_mul(gate_up).tolist() == [[0.0, 1e4]]
    assert clamped_swiglu(gate_up).tolist() == [[0.0, pytest.approx(14.0, rel=1e-4)]]


def test_silu_of_an_extreme_gate_is_its_limit() -> None:
    gate_up = torch.tensor([[-1e4, 1e4, 1.0, 1.0]])
    assert silu_mul(gate_up).tolist() == [[0.0, 1e4]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("operation", ["rms_norm", *GATES, "rotate"])
def test_a_row_has_the_same_bits_alone_and_at_any_place_of_a_batch(
    operation: str, width: int, dtype: torch.dtype
) -> None:
    x = (_random(67, 2 * width) * 3).to(dtype)
    weight = _random(2 * width, seed=1)
    rotations = rotation_table(torch.arange(67), _random(width, seed=2).abs())

    def run(rows: slice) -> torch.Tensor:
        if operation == "rms_norm":
            return rms_norm(x[rows], weight, 1e-5, dtype)
        if operation in GATES:
            return GATES[operation](x[rows])
        return rotate(x[rows].unsqueeze(1), rotations[:, rows], interleaved=True)

    together = run(slice(0, 67))
    for start, end in [(0, 1), (3, 4), (66, 67), (1, 33), (5, 12), (32, 64)]:
        assert torch.equal(run(slice(start, end)), together[start:end])


@pytest.mark.slow
def test_rotation_of_half_split_pairs_equals_that_of_transformers() -> None:
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    x = _random(6, 3, 16)
    frequencies = 1.0 / 10_000.0 ** (torch.arange(0, 16, 2) / 16)
    table = rotation_table(torch.arange(6), frequencies)
    cos, sin = (torch.cat((part, part), -1)[None] for part in table)
    batched = x.transpose(0, 1)[None]
    expected, _ = llama.apply_rotary_pos_emb(batched, batched, cos, sin)
    assert_close(rotate(x, table, interleaved=False), expected[0].transpose(0, 1))


def test_interleaved_rotation_is_the_half_split_one_on_permuted_dimensions() -> None:
    x = _random(6, 3, 16)
    table = rotation_table(torch.arange(6), _random(8, seed=1).abs())
    halves_to_pairs = torch.arange(16).view(2, 8).t().reshape(-1)
    pairs = rotate(x[..., halves_to_pairs], table, interleaved=True)
    assert torch.equal(pairs, rotate(x, table, interleaved=False)[..., halves_to_pairs])


@pytest.mark.parametrize(
    "call",
    [
        lambda: embed(torch.zeros(2), _random(3, 2)),
        lambda: embed(torch.zeros(2, dtype=torch.int32), _random(3)),
        lambda: rms_norm(_random(2, 3), _random(4), 1e-5, torch.float32),
        lambda: rms_norm(_random(2, 3), _random(3).bfloat16(), 1e-5, torch.float32),
        lambda: silu_mul(_random(2, 3)),
        lambda: rotate(_random(2, 1, 3), _random(2, 2, 1), interleaved=False),
        lambda: rotation_table(torch.zeros(2, 2), _random(3)),
    ],
    ids=[
        "float-ids",
        "flat-table",
        "norm-width",
        "norm-dtype",
        "odd-gate",
        "odd-head",
        "positions",
    ],
)
def test_shapes_outside_a_contract_are_refused(call: object) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=r"must be|needs"):
        call()
