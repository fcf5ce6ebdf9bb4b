"""The embedded model's file, read by us and by the format's own package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from furcate.runtime.model.catalog import CATALOG, ensure
from furcate.runtime.model.gguf import StringArray, read_header
from furcate.runtime.model.quantized import dequantize

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.smollm2]


@pytest.fixture(scope="module")
def path() -> Path:
    return ensure("smollm2")


@pytest.fixture(scope="module")
def oracle(path: Path) -> gguf.GGUFReader:
    return gguf.GGUFReader(str(path))


def test_every_key_has_the_oracles_value(path: Path, oracle: gguf.GGUFReader) -> None:
    metadata = read_header(path).metadata
    assert set(metadata) == {key for key in oracle.fields if not key.startswith("GGUF.")}
    for key, value in metadata.items():
        expected = oracle.fields[key].contents()
        if isinstance(value, StringArray):
            assert list(value) == expected
        elif isinstance(value, np.ndarray):
            assert value.tolist() == expected
        else:
            assert value == expected


def test_every_tensor_has_the_oracles_place_shape_and_values(
    path: Path, oracle: gguf.GGUFReader
) -> None:
    file = read_header(path)
    assert list(file.tensors) == [tensor.name for tensor in oracle.tensors]
    for tensor in oracle.tensors:
        info = file.tensors[tensor.name]
        assert info.type == tensor.tensor_type.name
        assert info.shape == tuple(int(dim) for dim in reversed(tensor.shape))
        assert (info.offset, info.num_bytes) == (tensor.data_offset, tensor.n_bytes)
    for tensor in [*oracle.tensors[:6], oracle.tensors[-1]]:
        ours = dequantize(file.tensors[tensor.name], file.raw(tensor.name))
        np.testing.assert_array_equal(ours, gguf.dequantize(tensor.data, tensor.tensor_type))


def test_the_facts_that_the_catalog_promises(path: Path) -> None:
    file = read_header(path)
    assert len(file.data) == CATALOG["smollm2"].num_bytes
    assert file.require("general.architecture", str) == "llama"
    assert file.require("llama.block_count", int) == 30
    assert file.require("llama.rope.freq_base", float) == 100_000.0
    assert file.tensors["token_embd.weight"].shape == (49_152, 576)
