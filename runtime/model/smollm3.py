"""SmolLM3: a llama in which every fourth layer knows no positions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .family import Family
from .hf_decoder import read_attention, read_decoder, read_layers, read_num_layers, read_windows
from .hf_names import HFNames

if TYPE_CHECKING:
    from .config import DecoderConfig
    from .hf_config import HFConfig

__all__ = ["FAMILY"]

BASE = 2_000_000.0


def _config(config: HFConfig) -> DecoderConfig:
    has_windows = config.flag("use_sliding_window")
    rotated = read_layers(config, windows=read_windows(config) if has_windows else None, base=BASE)
    mixed = tuple(
        layer if is_rotated else replace(layer, rope=None)
        for layer, is_rotated in zip(rotated, _is_rotated(config), strict=True)
    )
    return read_decoder(config, mixed, read_attention(config), tied=True)


def _is_rotated(config: HFConfig) -> list[bool]:
    count = read_num_layers(config)
    if config.has("no_rope_layers"):  # despite its name, 1 for layers that are rotated
        return [bool(entry) for entry in config.sequence("no_rope_layers", count)]
    interval = config.integer("no_rope_layer_interval", 4)
    return [(number + 1) % interval != 0 for number in range(count)]


FAMILY = Family("SmolLM3", "layers without positions", _config, lambda _: HFNames())
