"""Named tensors of a checkpoint, one at a time, under GGUF's names: in float32 or as stored.

A tensor in float32 is expanded when it is asked for and belongs to the caller, so loading holds one
of them beside what has been packed. As stored it is a view that costs no memory of its own. Knows
names and shapes, not what a tensor is for.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import torch

from furcate.errors import ModelFileError

from .hf_names import prefix_of
from .quantized import check_stored, dequantize, is_finite
from .scaled import find

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from torch import Tensor

    from .gguf import GGUFFile, TensorInfo
    from .hf_names import HFNames

__all__ = ["GGUFTensors", "RawTensor", "StateDictTensors", "TensorSource"]

_FLOAT_NAMES: Mapping[torch.dtype, str] = MappingProxyType(
    {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
)


@dataclass(frozen=True, slots=True, eq=False)
class RawTensor:
    """A tensor as it is stored. `data` must not be written: it may be a view of a mapped file."""

    type: str  # "Q4_1", "BF16", ...: as GGUF calls it
    shape: tuple[int, ...]  # the last dimension is contiguous
    data: np.ndarray  # uint8, row after row


class TensorSource(Protocol):
    """Where a model's weights come from. Both methods raise ModelFileError where the tensor is
    missing, of another shape, of a type that cannot be read or holds something that is not a finite
    number."""

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor as float32."""
        ...

    def raw(self, name: str, shape: tuple[int, ...]) -> RawTensor | None:
        """The tensor as it is stored, without a copy; None where only `read` can give it."""
        ...


class GGUFTensors:
    """The tensors of a mapped GGUF file."""

    def __init__(self, file: GGUFFile) -> None:
        self._file = file

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        info = self._info(name, shape)
        return _finite(name, torch.from_numpy(dequantize(info, self._file.raw(name))))

    def raw(self, name: str, shape: tuple[int, ...]) -> RawTensor:
        info = self._info(name, shape)
        data = self._file.raw(name)
        check_stored(info, data)
        return _finite_raw(name, RawTensor(info.type, info.shape, data))

    def _info(self, name: str, shape: tuple[int, ...]) -> TensorInfo:
        # What was read before goes back to the system; a view that is still used reads it again.
        self._file.data.madvise(mmap.MADV_DONTNEED)
        info = self._file.tensors.get(name)
        if info is None:
            raise ModelFileError(f"{self._file.path}: there is no tensor {name!r}")
        if info.shape != shape:
            raise _wrong_shape(name, info.shape, shape)
        return info


class StateDictTensors:
    """The tensors of a transformers checkpoint, found by a family's names."""

    def __init__(self, state: Mapping[str, Tensor], names: HFNames) -> None:
        self._state = state
        self._names = names
        self._prefix = prefix_of(state)

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return _finite(name, self._tensor(name, shape).detach().float())

    def raw(self, name: str, shape: tuple[int, ...]) -> RawTensor | None:
        tensor = self._tensor(name, shape).detach()
        kind = _FLOAT_NAMES.get(tensor.dtype)
        if kind is None or tensor.device.type != "cpu" or not tensor.is_contiguous():
            return None
        # By way of integers: numpy has no bfloat16.
        data = tensor.view(-1).view(torch.uint8).numpy()
        return _finite_raw(name, RawTensor(kind, shape, data))

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        place = self._names.find(name)
        full_name = place.name if place.is_whole_name else self._prefix + place.name
        found = find(self._state, full_name, place.expert)
        if found is None:
            raise ModelFileError(f"there is no tensor {full_name!r}")
        tensor = found.tensor if place.part is None else place.part(*found)
        if tuple(tensor.shape) != shape:
            raise _wrong_shape(full_name, tuple(tensor.shape), shape)
        return tensor


def _finite(name: str, tensor: Tensor) -> Tensor:
    # One reduction without a temporary: the sum of absolute values is finite if all of them are,
    # and weights that overflow it would overflow the forward too.
    if not bool(torch.isfinite(torch.linalg.vector_norm(tensor, 1))):
        raise _not_finite(name)
    return tensor


def _finite_raw(name: str, tensor: RawTensor) -> RawTensor:
    if not is_finite(tensor.type, tensor.data):
        raise _not_finite(name)
    return tensor


def _not_finite(name: str) -> ModelFileError:
    return ModelFileError(f"tensor {name!r} holds values that are not finite; fetch it again")


def _wrong_shape(name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> ModelFileError:
    return ModelFileError(
        f"tensor {name!r} has shape {list(found)}, the config asks for {list(expected)}"
    )
