"""From a file or folder to a model that computes, on the reference or on native operations.

Knows which of the two can run a model, and no family by name.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import torch

from furcate.errors import UsageError
from furcate.runtime.progress import no_bar

from .checkpoint import Checkpoint, open_checkpoint, read_config
from .decoder import load_decoder
from .metered import MeteredTensors
from .size import count_parameters

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from furcate.kernels.library import Pool
    from furcate.kernels.structures import KVType
    from furcate.runtime.progress import Advance, Bar

    from .base import LanguageModel
    from .native import NativeModel
    from .native_weights import Matmul

__all__ = ["Dtype", "load_model", "load_native_model", "resolve_dtype", "why_not_native"]

Dtype = Literal["auto", "float32", "bfloat16"]

SHOWN_BYTES = 2  # a parameter, for the eye: how many it takes is for the kernels to know

_DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"float32": torch.float32, "bfloat16": torch.bfloat16}
)


def load_model(
    path: str | os.PathLike[str],
    dtype: Dtype = "auto",
    *,
    long_rope: bool = False,
    bar: Bar = no_bar,
) -> LanguageModel:
    """A stored model, ready for `allocate`. Its dtype is resolved by `resolve_dtype`."""
    resolved = resolve_dtype(dtype)
    checkpoint = open_checkpoint(path, long_rope=long_rope)
    with bar("loading weights", _num_bytes(checkpoint)) as advance:
        metered = _metered(checkpoint, advance)
        return load_decoder(metered.config, metered.tensors, resolved)


def load_native_model(
    path: str | os.PathLike[str],
    pool: Pool,
    matmul: Matmul = "auto",
    kv_type: KVType = "bf16",
    *,
    long_rope: bool = False,
    bar: Bar = no_bar,
) -> NativeModel:
    """A stored model as a program of native operations that run on `pool`, ready for `allocate`.
    Closing the model closes the pool."""
    from .decoder_native import load_native_decoder  # ctypes, for those who use it

    checkpoint = open_checkpoint(path, long_rope=long_rope)
    with bar("loading weights", _num_bytes(checkpoint)) as advance:
        metered = _metered(checkpoint, advance)
        return load_native_decoder(metered.config, metered.tensors, pool, matmul, kv_type)


def _num_bytes(checkpoint: Checkpoint) -> int:
    return count_parameters(checkpoint.config).total * SHOWN_BYTES


def _metered(checkpoint: Checkpoint, advance: Advance) -> Checkpoint:
    tensors = MeteredTensors(checkpoint.tensors, lambda count: advance(count * SHOWN_BYTES))
    return Checkpoint(checkpoint.config, tensors)


def why_not_native(path: str | os.PathLike[str]) -> str | None:
    """What keeps native kernels from running a model that the reference runs; None: nothing does.
    Reads its facts alone."""
    from .decoder_native import why_not_native as reason_of

    return reason_of(read_config(path))


def resolve_dtype(dtype: Dtype) -> torch.dtype:
    """The dtype of weights and KV. "auto" is bfloat16 where the processor multiplies it natively
    and float32 elsewhere: emulated bfloat16 would be slower and less exact."""
    if dtype == "auto":
        return torch.bfloat16 if _has_native_bfloat16() else torch.float32
    resolved = _DTYPES.get(dtype)
    if resolved is None:
        raise UsageError(f"dtype must be 'auto', 'float32' or 'bfloat16', got {dtype!r}")
    return resolved


def _has_native_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
