"""Which files a folder of safetensors has, by its index. Knows neither tensors nor torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from furcate.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["INDEX", "SINGLE", "read_json", "shard_names"]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def shard_names(folder: Path) -> list[str]:
    """The files that the index of a folder names."""
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
        raise ModelFileError(f"{folder / INDEX} has no table 'weight_map'")
    names = sorted({str(name) for name in weight_map.values()})
    outside = [name for name in names if "/" in name or "\\" in name]
    if outside:
        raise ModelFileError(f"{folder / INDEX}: {outside[0]!r} is not a name of a file")
    return names


def read_json(path: Path) -> Mapping[str, object]:
    """The table in a JSON file."""
    try:
        table = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be read: {error}") from error
    if not isinstance(table, dict):
        raise ModelFileError(f"{path} must hold a table, got {table!r:.80}")
    return cast("Mapping[str, object]", table)
