"""Tensors as they are stored: views, and the same errors as when they are expanded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest
import torch

from furcate.errors import ModelFileError
from furcate.runtime.model.gguf import TENSOR_TYPES, read_header
from furcate.runtime.model.hf_names import HFNames
from furcate.runtime.model.quantized import DEQUANTIZERS
from furcate.runtime.model.weights import GGUFTensors, StateDictTensors

if TYPE_CHECKING:
    from pathlib import Path

    from furcate.runtime.model.weights import TensorSource

SHAPE = (3, 256)
SIZES = {name: SHAPE[1] // block * size for name, block, size in TENSOR_TYPES.values()}
HF_NAME = "model.layers.0.self_attn.q_proj.weight"


def gguf_source(path: Path, kind: str, fill: int = 0) -> GGUFTensors:
    """A file with blk.0.attn_q.weight, every byte of it `fill`."""
    writer = gguf.GGUFWriter(path, "llama")
    data = np.full((SHAPE[0], SIZES[kind]), fill, np.uint8)
    writer.add_tensor("blk.0.attn_q.weight", data, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GGUFTensors(read_header(path))


@pytest.mark.parametrize("kind", DEQUANTIZERS)
def test_a_stored_tensor_is_a_read_only_view_of_the_file(tmp_path: Path, kind: str) -> None:
    raw = gguf_source(tmp_path / "m.gguf", kind, 0x21).raw("blk.0.attn_q.weight", SHAPE)
    assert (raw.type, raw.shape) == (kind, SHAPE)
    assert (raw.data.dtype, raw.data.size) == (np.uint8, SHAPE[0] * SIZES[kind])
    assert (raw.data == 0x21).all()
    assert not raw.data.flags.owndata
    assert not raw.data.flags.writeable


@pytest.mark.parametrize("kind", DEQUANTIZERS)
def test_a_stored_tensor_that_is_not_finite_is_refused(tmp_path: Path, kind: str) -> None:
    source = gguf_source(tmp_path / "m.gguf", kind, 0xFF)
    check_both(source, SHAPE, "'blk.0.attn_q.weight' holds values that are not finite")


def test_a_stored_tensor_of_an_unreadable_type_is_refused(tmp_path: Path) -> None:
    source = gguf_source(tmp_path / "m.gguf", "IQ4_NL")
    check_both(source, SHAPE, "is stored as 'IQ4_NL', which is not supported")


def test_a_stored_tensor_of_another_shape_or_name_is_refused(tmp_path: Path) -> None:
    source = gguf_source(tmp_path / "m.gguf", "Q4_1")
    check_both(source, (256, 3), r"has shape \[3, 256\], the config asks for \[256, 3\]")
    with pytest.raises(ModelFileError, match=r"there is no tensor 'output\.weight'"):
        source.raw("output.weight", SHAPE)


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [(torch.float32, "F32"), (torch.float16, "F16"), (torch.bfloat16, "BF16")],
    ids=["F32", "F16", "BF16"],
)
def test_a_state_dict_gives_views_of_its_floats(dtype: torch.dtype, kind: str) -> None:
    tensor = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).to(dtype)
    raw = StateDictTensors({HF_NAME: tensor}, HFNames()).raw("blk.0.attn_q.weight", SHAPE)
    assert raw is not None
    assert (raw.type, raw.shape, raw.data.dtype) == (kind, SHAPE, np.uint8)
    assert raw.data.ctypes.data == tensor.data_ptr()
    expanded = DEQUANTIZERS[kind](raw.data).reshape(SHAPE)
    assert torch.equal(torch.from_numpy(expanded), tensor.float())


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_state_dict_with_one_value_that_is_not_finite_is_refused(
    dtype: torch.dtype, value: float
) -> None:
    tensor = torch.zeros(SHAPE, dtype=dtype)
    tensor[2, 255] = value
    check_both(
        StateDictTensors({HF_NAME: tensor}, HFNames()), SHAPE, "holds values that are not finite"
    )


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(SHAPE, dtype=torch.float64), torch.zeros(SHAPE[::-1]).T],
    ids=["float64", "transposed"],
)
def test_what_a_state_dict_cannot_view_can_still_be_read(tensor: torch.Tensor) -> None:
    source = StateDictTensors({HF_NAME: tensor}, HFNames())
    assert source.raw("blk.0.attn_q.weight", SHAPE) is None
    assert torch.equal(source.read("blk.0.attn_q.weight", SHAPE), torch.zeros(SHAPE))


def check_both(source: TensorSource, shape: tuple[int, ...], message: str) -> None:
    for method in (source.raw, source.read):
        with pytest.raises(ModelFileError, match=message):
            method("blk.0.attn_q.weight", shape)
