"""Mistral: a llama whose layers may have an attention window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .family import Family
from .hf_decoder import attention, decoder, layers, windows
from .hf_names import HFNames

if TYPE_CHECKING:
    from .config import DecoderConfig
    from .hf_config import HFConfig

__all__ = ["FAMILY"]


def _config(config: HFConfig) -> DecoderConfig:
    return decoder(config, layers(config, windows=windows(config)), attention(config))


FAMILY = Family("Mistral", "sliding window", _config, lambda _: HFNames())
