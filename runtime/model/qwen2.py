"""Qwen2 and Qwen2.5: a llama with biases at queries, keys and values."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .family import Family
from .hf_decoder import read_attention, read_decoder, read_layers, read_num_layers, read_windows
from .hf_names import HFNames

if TYPE_CHECKING:
    from .config import DecoderConfig
    from .hf_config import HFConfig

__all__ = ["FAMILY", "qwen_windows"]


def _config(config: HFConfig) -> DecoderConfig:
    with_bias = replace(read_attention(config), qkv_bias=True)
    return read_decoder(config, read_layers(config, windows=qwen_windows(config)), with_bias)


def qwen_windows(config: HFConfig) -> tuple[int | None, ...]:
    """A window, which most checkpoints name and do not use, is that of the layers from
    `max_window_layers` on."""
    count = read_num_layers(config)
    if not config.flag("use_sliding_window"):
        return (None,) * count
    if config.has("layer_types"):
        return read_windows(config)
    window, first = config.integer("sliding_window"), config.integer("max_window_layers")
    return tuple(window if number >= first else None for number in range(count))


FAMILY = Family("Qwen2, Qwen2.5", "bias at q, k and v", _config, lambda _: HFNames())
