"""A model's facts and tensors from where it is stored: a GGUF file or a transformers folder.

Opening maps files and reads headers; tensors are read when they are asked for. Knows no downloads.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from furcate.errors import ModelFileError

from .gguf import read_header
from .hf_config import HFConfig
from .registry import FAMILIES, GGUF_ARCHITECTURES
from .safetensors import SafetensorsFolder, read_json
from .scaled import QUANTIZATIONS
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


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    return _open_folder(Path(path)) if Path(path).is_dir() else _open_gguf(Path(path))


def read_config(path: str | os.PathLike[str]) -> DecoderConfig:
    """The facts alone; shards are not looked for."""
    path = Path(path)
    if not path.is_dir():
        return _open_gguf(path).config
    model_type, config = _read_hf_config(path)
    return FAMILIES[model_type].read(config)


def _open_gguf(path: Path) -> Checkpoint:
    file = read_header(path)
    architecture = file.require("general.architecture", str)
    if architecture not in GGUF_ARCHITECTURES:
        raise _unknown(path, "architecture", architecture, GGUF_ARCHITECTURES)
    return Checkpoint(GGUF_ARCHITECTURES[architecture](file), GGUFTensors(file))


def _open_folder(path: Path) -> Checkpoint:
    model_type, hf_config = _read_hf_config(path)
    family = FAMILIES[model_type]
    config = family.read(hf_config)
    return Checkpoint(config, StateDictTensors(SafetensorsFolder(path), family.names(config)))


def _read_hf_config(path: Path) -> tuple[str, HFConfig]:
    config = HFConfig(read_json(path / "config.json"))
    model_type = config.text("model_type")
    if model_type not in FAMILIES:
        raise _unknown(path, "model type", model_type, FAMILIES)
    quantization = config.table("quantization_config")
    if quantization.has("quant_method") and quantization.text("quant_method") not in QUANTIZATIONS:
        method = quantization.text("quant_method")
        raise _unknown(path, "quantization", method, QUANTIZATIONS)
    return model_type, config


def _unknown(path: Path, kind: str, name: str, known: Iterable[str]) -> ModelFileError:
    supported = ", ".join(map(repr, known))
    return ModelFileError(f"{path}: {kind} {name!r} is not supported; supported: {supported}")
