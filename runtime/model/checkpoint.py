"""A model's facts and tensors from where it is stored: a GGUF file or a transformers folder.

Opening maps files and reads headers; tensors are read when they are asked for. Knows no downloads.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from furcate.errors import ModelFileError

from .gguf import read_header
from .hf_config import HFConfig
from .hf_rope import with_long_rope
from .registry import FAMILIES, GGUF_ARCHITECTURES
from .safetensors import SafetensorsFolder
from .scaled import QUANTIZATIONS
from .shards import read_json
from .weights import GGUFTensors, StateDictTensors

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from .config import DecoderConfig
    from .weights import TensorSource

__all__ = ["Checkpoint", "open_checkpoint", "read_config"]


class Checkpoint(NamedTuple):
    config: DecoderConfig
    tensors: TensorSource


def open_checkpoint(path: str | os.PathLike[str], *, long_rope: bool = False) -> Checkpoint:
    """`long_rope`: where a folder's model has long rope, it is long from the first token on."""
    path = Path(path)
    return _open_folder(path, long_rope) if path.is_dir() else _open_gguf(path)


def read_config(path: str | os.PathLike[str], *, long_rope: bool = False) -> DecoderConfig:
    """The facts alone; shards are not looked for."""
    path = Path(path)
    if not path.is_dir():
        return _open_gguf(path).config
    model_type, config = _read_hf_config(path, long_rope)
    return FAMILIES[model_type].read(config)


def _open_gguf(path: Path) -> Checkpoint:
    file = read_header(path)
    architecture = file.require("general.architecture", str)
    if architecture not in GGUF_ARCHITECTURES:
        raise _unknown(path, "architecture", architecture, GGUF_ARCHITECTURES)
    return Checkpoint(GGUF_ARCHITECTURES[architecture](file), GGUFTensors(file))


def _open_folder(path: Path, long_rope: bool) -> Checkpoint:
    model_type, hf_config = _read_hf_config(path, long_rope)
    family = FAMILIES[model_type]
    config = family.read(hf_config)
    return Checkpoint(config, StateDictTensors(SafetensorsFolder(path), family.names(config)))


def _read_hf_config(path: Path, long_rope: bool) -> tuple[str, HFConfig]:
    config = HFConfig(read_json(path / "config.json"))
    model_type = config.text("model_type")
    if model_type not in FAMILIES:
        raise _unknown(path, "model type", model_type, FAMILIES)
    quantization = config.table("quantization_config")
    if quantization.has("quant_method") and quantization.text("quant_method") not in QUANTIZATIONS:
        method = quantization.text("quant_method")
        raise _unknown(path, "quantization", method, QUANTIZATIONS)
    return model_type, with_long_rope(config) if long_rope else config


def _unknown(path: Path, kind: str, name: str, known: Iterable[str]) -> ModelFileError:
    supported = ", ".join(map(repr, known))
    return ModelFileError(f"{path}: {kind} {name!r} is not supported; supported: {supported}")
