"""Whether a model fits in this machine's memory: asked before it is loaded, so that the answer is a
sentence and not the end of the process.

Knows sizes; does not load.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from furcate.errors import CapacityError
from furcate.kernels.linear.weight import STORED_TYPES
from furcate.runtime.attention.native import NativeSpec
from furcate.runtime.model.checkpoint import read_config
from furcate.runtime.model.decoder import attention_spec
from furcate.runtime.model.load import resolve_dtype
from furcate.runtime.model.size import loaded_bytes, read_stored

from .kernels import reference_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from furcate.runtime.config import Config
    from furcate.runtime.model.config import DecoderConfig
    from furcate.runtime.model.size import Stored

__all__ = ["Room", "check_room", "room_for"]

MIB, GIB = 1 << 20, 1 << 30
FLOAT_BYTES = 4  # of a tensor on its way from the file

KVName = Literal["bf16", "int8", "fp32"]


@dataclass(frozen=True, slots=True)
class Room:
    """What a model takes. `passing`: of tensors on their way, only while it loads. A token's bytes
    are by what `--kv-dtype` may be on these kernels."""

    weights: int
    passing: int
    kv_bytes_per_token: Mapping[KVName, int]
    numbers: str  # that products are computed in


def room_for(path: Path, config: Config, tier: str | None) -> Room:
    """On native kernels of a tier; None is the reference. Reads headers alone."""
    model = read_config(path, long_rope=config.model.long_rope)
    stored = read_stored(path)
    if tier is None:
        dtype = resolve_dtype(reference_dtype(config))
        return Room(
            loaded_bytes(stored, model, dtype.itemsize, keeps_blocks=False),
            _passing(stored, dtype.itemsize, expands=True),
            _reference_kv(model),
            "bf16" if dtype.itemsize == 2 else "fp32",
        )
    matmul = config.model.matmul
    size = 4 if matmul == "fp32" or (tier != "avx512" and matmul != "bf16") else 2
    keeps_blocks = matmul in ("auto", "int8")
    weights = loaded_bytes(stored, model, size, keeps_blocks=keeps_blocks)
    passing = _passing(stored, size, expands=not keeps_blocks)
    return Room(weights, passing, _native_kv(model), "bf16" if size == 2 else "fp32")


def check_room(room: Room, kv_bytes: int, available: int | None, name: str) -> None:
    """CapacityError, with what would fit, unless weights and pages do."""
    if available is None:
        return
    loading = room.weights + room.passing
    if loading > available:
        smaller = "; --matmul bf16 takes half of it" if room.numbers == "fp32" else ""
        raise CapacityError(
            f"model {name!r} needs {_gib(loading)} for its weights while it loads, and "
            f"{_gib(available)} are available{smaller}; free memory, or take a smaller or more "
            "strongly quantised model"
        )
    left = available - room.weights
    if kv_bytes > left:
        raise CapacityError(
            f"--kv-bytes {kv_bytes // MIB}MiB: of {_gib(available)} that are available, the "
            f"weights of {name!r} take {_gib(room.weights)}; --kv-bytes {left // MIB}MiB would fit"
        )


def _passing(stored: Sequence[Stored], float_bytes: int, *, expands: bool) -> int:
    """Of the largest matrix on its way: as it is stored, and where it has to be expanded, in floats
    before and after they are rounded. A stack of experts is read one by one."""
    sizes = []
    for each in stored:
        parts = each.shape[0] if len(each.shape) > 2 else 1
        has_floats = expands or each.type not in STORED_TYPES
        values = each.num_values * (FLOAT_BYTES + float_bytes) if has_floats else 0
        sizes.append((each.num_bytes + values) // max(1, parts))
    return max(sizes, default=0)


def _native_kv(model: DecoderConfig) -> Mapping[KVName, int]:
    attention = model.attention
    sizes = (model.num_layers, attention.num_heads, attention.kv_heads, attention.head_dim)
    return {
        "bf16": NativeSpec(*sizes, "bf16").kv_bytes_per_token,
        "int8": NativeSpec(*sizes, "int8").kv_bytes_per_token,
    }


def _reference_kv(model: DecoderConfig) -> Mapping[KVName, int]:
    return {
        "bf16": attention_spec(model, resolve_dtype("bfloat16")).kv_bytes_per_token,
        "fp32": attention_spec(model, resolve_dtype("float32")).kv_bytes_per_token,
    }


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.1f} GiB"
