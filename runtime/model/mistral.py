"""Mistral: a llama whose layers may have an attention window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .family import Family
from .hf_decoder import read_attention, read_decoder, read_layers, read_windows
from .hf_names import HFNames

if TYPE_CHECKING:
    from .config import DecoderConfig
    from .hf_config import HFConfig

__all__ = ["FAMILY"]


def _config(config: HFConfig) -> DecoderConfig:
    layers = read_layers(config, windows=read_windows(config))
    return read_decoder(config, layers, read_attention(config))


FAMILY = Family("Mistral", "sliding window", _config, lambda _: HFNames())
