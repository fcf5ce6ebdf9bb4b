"""Gemma 3's text models: Gemma 2 with normalised queries and keys instead of capped scores, five
local layers for each global one, and another rope base for each kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .config import LayerConfig
from .family import Family
from .gemma2 import GEMMA_NAMES, gemma_attention, gemma_decoder
from .hf_decoder import read_head_dim, read_num_layers, read_windows
from .hf_rope import read_rope

if TYPE_CHECKING:
    from .config import DecoderConfig, RopeConfig
    from .hf_config import HFConfig

__all__ = ["FAMILY"]

GLOBAL_BASE = 1_000_000.0
LOCAL_BASE = 10_000.0
# What files of models that also see pictures leave out.
TEXT_DEFAULTS = {
    "vocab_size": 262_208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "sliding_window": 4096,
}


def _config(config: HFConfig) -> DecoderConfig:
    if config.has("text_config"):  # of a model that also sees pictures
        config = config.table("text_config").over(TEXT_DEFAULTS)
    whole = read_rope(config, read_head_dim(config), "full_attention", base=GLOBAL_BASE)
    local = _local_rope(config, whole)
    layers = tuple(
        LayerConfig(whole if window is None else local, window) for window in _windows(config)
    )
    return gemma_decoder(config, layers, replace(gemma_attention(config), qk_norm="head"))


def _local_rope(config: HFConfig, whole: RopeConfig) -> RopeConfig:
    """Local layers are not stretched, as the global ones may be."""
    if config.has("rope_parameters"):
        return read_rope(config, read_head_dim(config), "sliding_attention", base=LOCAL_BASE)
    base = config.number("rope_local_base_freq", LOCAL_BASE)
    return replace(whole, base=base, divisors=(), scale=1.0)


def _windows(config: HFConfig) -> tuple[int | None, ...]:
    if config.has("layer_types"):
        return read_windows(config)
    window, pattern = config.integer("sliding_window"), config.integer("sliding_window_pattern", 6)
    return tuple(
        window if (number + 1) % pattern else None for number in range(read_num_layers(config))
    )


FAMILY = Family(
    "Gemma 3", "Gemma 2 with q and k norms and two rope bases", _config, lambda _: GEMMA_NAMES
)
