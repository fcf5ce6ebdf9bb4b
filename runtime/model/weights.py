"""Named float32 tensors of a checkpoint, one at a time, under GGUF's names.

A tensor is expanded when it is asked for and belongs to the caller, so loading holds one of them in
float32 beside what has been packed. Knows names and shapes, not what a tensor is for.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import torch

from furcate.errors import ModelFileError

from .quantized import dequantize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from .gguf import GGUFFile

__all__ = ["GGUFTensors", "StateDictTensors", "TensorSource"]

_HF_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "token_embd": "model.embed_tokens",
        "output_norm": "model.norm",
        "output": "lm_head",
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
)
_NAME = re.compile(r"(?:blk\.(\d+)\.)?([a-z_]+)\.weight")


class TensorSource(Protocol):
    """Where a model's weights come from."""

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor as float32. ModelFileError where it is missing, of another shape or holds
        something that is not a finite number."""
        ...


class GGUFTensors:
    """The tensors of a mapped GGUF file."""

    def __init__(self, file: GGUFFile) -> None:
        self._file = file

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        info = self._file.tensors.get(name)
        if info is None:
            raise ModelFileError(f"{self._file.path}: there is no tensor {name!r}")
        if info.shape != shape:
            raise _wrong_shape(name, info.shape, shape)
        return _finite(name, torch.from_numpy(dequantize(info, self._file.raw(name))))


class StateDictTensors:
    """The tensors of a transformers state dict of a llama-family model."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self._state = state

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        match = _NAME.fullmatch(name)
        if match is None or match[2] not in _HF_NAMES:
            raise ModelFileError(f"a llama checkpoint has no tensor called {name!r}")
        block = "" if match[1] is None else f"model.layers.{match[1]}."
        tensor = self._state.get(f"{block}{_HF_NAMES[match[2]]}.weight")
        if tensor is None:
            raise ModelFileError(f"there is no tensor {block}{_HF_NAMES[match[2]]}.weight")
        if tuple(tensor.shape) != shape:
            raise _wrong_shape(name, tuple(tensor.shape), shape)
        return _finite(name, tensor.detach().float())


def _finite(name: str, tensor: Tensor) -> Tensor:
    # One reduction without a temporary: the sum of absolute values is finite if all of them are,
    # and weights that overflow it would overflow the forward too.
    if not bool(torch.isfinite(torch.linalg.vector_norm(tensor, 1))):
        raise ModelFileError(f"tensor {name!r} holds values that are not finite; fetch it again")
    return tensor


def _wrong_shape(name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> ModelFileError:
    return ModelFileError(
        f"tensor {name!r} has shape {list(found)}, the config asks for {list(expected)}"
    )
