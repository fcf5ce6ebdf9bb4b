"""Tensors that transformers checkpoints store in few bits with scales beside them.

`fp8`: `X.weight` in float8 with `X.weight_scale_inv`, a factor for each block of 128 x 128.
`mxfp4`: `X_blocks` with two 4-bit floats a byte and `X_scales` with an exponent for each 32 of
them, of all experts, each a matrix [out, in] where `X` would be [in, out]. Knows no family.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from furcate.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["QUANTIZATIONS", "Found", "find"]

QUANTIZATIONS = ("fp8", "mxfp4")  # by the `quant_method` of a config.json
FP8_BLOCK = 128
MX_GROUP_BYTES = 16  # of 32 values
MX_BIAS = 127  # of exponents
MX_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


class Found(NamedTuple):
    """A tensor in numbers that torch multiplies, and where in it an expert is."""

    tensor: Tensor
    expert: int


def find(state: Mapping[str, Tensor], name: str, expert: int) -> Found | None:
    """The tensor of that name, expanded where it is stored with scales; None where there is none.
    Of packed experts, one alone is expanded."""
    tensor = state.get(name)
    if tensor is not None and tensor.dtype == torch.float8_e4m3fn:
        return Found(_from_fp8(name, tensor, _beside(state, f"{name}_scale_inv")), expert)
    if tensor is None and f"{name}_blocks" in state:
        blocks, scales = state[f"{name}_blocks"], _beside(state, f"{name}_scales")
        return Found(_from_mxfp4(name, blocks, scales, expert).t().unsqueeze(0), 0)
    return None if tensor is None else Found(tensor, expert)


def _beside(state: Mapping[str, Tensor], name: str) -> Tensor:
    scales = state.get(name)
    if scales is None:
        raise ModelFileError(f"there is no tensor {name!r}, which has the scales of another one")
    return scales


def _from_fp8(name: str, values: Tensor, scales: Tensor) -> Tensor:
    expected = tuple(-(-size // FP8_BLOCK) for size in values.shape)
    if values.ndim != 2 or tuple(scales.shape) != expected:
        raise ModelFileError(
            f"tensor {name!r} has scales {list(scales.shape)}, a matrix {list(values.shape)} "
            f"in blocks of {FP8_BLOCK} needs {list(expected)}"
        )
    by_row = scales.float().repeat_interleave(FP8_BLOCK, dim=0)[: values.shape[0]]
    return values.float() * by_row.repeat_interleave(FP8_BLOCK, dim=1)[:, : values.shape[1]]


def _from_mxfp4(name: str, blocks: Tensor, scales: Tensor, expert: int) -> Tensor:
    """One expert's matrix, float32 [out, in]."""
    if blocks.ndim != 4 or blocks.shape[3] != MX_GROUP_BYTES or blocks.shape[:3] != scales.shape:
        raise ModelFileError(
            f"tensor {name!r} has blocks {list(blocks.shape)} and scales {list(scales.shape)}; "
            f"they must be [experts, out, groups, {MX_GROUP_BYTES}] and [experts, out, groups]"
        )
    table = torch.tensor((*MX_VALUES, *(-value for value in MX_VALUES)))
    codes = blocks[expert].int()  # [out, groups, 16]
    pairs = torch.stack((codes & 15, codes >> 4), dim=-1)  # the lower half comes first
    exponents = scales[expert].int() - MX_BIAS
    values = torch.ldexp(table[pairs.flatten(2)], exponents.unsqueeze(-1))
    return values.flatten(1)
