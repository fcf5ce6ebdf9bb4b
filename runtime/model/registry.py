"""From a model file to a model: which class serves which architecture.

Adding a family is a module beside `llama` and a line in ARCHITECTURES. Knows nothing of aliases or
downloads: a path comes in.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import torch

from furcate.errors import ModelFileError, UsageError

from .config import config_from_gguf
from .gguf import GGUFFile, read_header
from .llama import LlamaModel, load_llama_weights
from .weights import GGUFTensors

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from furcate.kernels.library import Pool
    from furcate.kernels.structures import KVType

    from .base import LanguageModel
    from .native import NativeModel
    from .native_weights import Matmul

__all__ = [
    "ARCHITECTURES",
    "NATIVE_ARCHITECTURES",
    "Dtype",
    "NativeFamily",
    "load_model",
    "load_native_model",
    "resolve_dtype",
    "why_not_native",
]

Family = TypeVar("Family")

Dtype = Literal["auto", "float32", "bfloat16"]

_DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"float32": torch.float32, "bfloat16": torch.bfloat16}
)


def _load_llama(file: GGUFFile, dtype: torch.dtype) -> LanguageModel:
    config = config_from_gguf(file)
    return LlamaModel(config, load_llama_weights(config, GGUFTensors(file), dtype))


def _load_native_llama(file: GGUFFile, pool: Pool, matmul: Matmul, kv_type: KVType) -> NativeModel:
    from .llama_native import load_native_llama

    return load_native_llama(config_from_gguf(file), GGUFTensors(file), pool, matmul, kv_type)


def _why_not_native_llama(file: GGUFFile) -> str | None:
    from .llama_native import why_not_native

    return why_not_native(config_from_gguf(file))


class NativeFamily(NamedTuple):
    """How an architecture's files become native models, and what keeps one of them from it."""

    load: Callable[[GGUFFile, Pool, Matmul, KVType], NativeModel]
    why_not: Callable[[GGUFFile], str | None]


ARCHITECTURES: Mapping[str, Callable[[GGUFFile, torch.dtype], LanguageModel]] = MappingProxyType(
    {"llama": _load_llama}
)
NATIVE_ARCHITECTURES: Mapping[str, NativeFamily] = MappingProxyType(
    {"llama": NativeFamily(_load_native_llama, _why_not_native_llama)}
)


def load_model(path: str | os.PathLike[str], dtype: Dtype = "auto") -> LanguageModel:
    """The model in a GGUF file, ready for `allocate`. Its dtype is resolved by `resolve_dtype`."""
    resolved = resolve_dtype(dtype)
    file = read_header(path)
    return _family(ARCHITECTURES, file)(file, resolved)


def load_native_model(
    path: str | os.PathLike[str], pool: Pool, matmul: Matmul = "auto", kv_type: KVType = "bf16"
) -> NativeModel:
    """The model in a GGUF file as a program of native operations that run on `pool`, ready for
    `allocate`. Closing the model closes the pool."""
    file = read_header(path)
    return _family(NATIVE_ARCHITECTURES, file).load(file, pool, matmul, kv_type)


def why_not_native(path: str | os.PathLike[str]) -> str | None:
    """What keeps native kernels from running the model in a GGUF file that the reference runs;
    None: nothing does. Reads the header alone."""
    file = read_header(path)
    architecture = file.require("general.architecture", str)
    if architecture in ARCHITECTURES and architecture not in NATIVE_ARCHITECTURES:
        return f"models of architecture {architecture!r}"
    return _family(NATIVE_ARCHITECTURES, file).why_not(file)


def _family(families: Mapping[str, Family], file: GGUFFile) -> Family:
    architecture = file.require("general.architecture", str)
    family = families.get(architecture)
    if family is None:
        known = ", ".join(repr(name) for name in families)
        raise ModelFileError(
            f"{file.path}: architecture {architecture!r} is not supported; supported: {known}"
        )
    return family


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
