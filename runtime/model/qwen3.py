"""Qwen3: a llama whose queries and keys are normalised head by head."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .family import Family
from .hf_decoder import read_attention, read_decoder, read_layers
from .hf_names import HFNames
from .qwen2 import qwen_windows

if TYPE_CHECKING:
    from .config import DecoderConfig
    from .hf_config import HFConfig

__all__ = ["FAMILY"]


def _config(config: HFConfig) -> DecoderConfig:
    with_norm = replace(read_attention(config), qk_norm="head")
    return read_decoder(config, read_layers(config, windows=qwen_windows(config)), with_norm)


FAMILY = Family("Qwen3", "norm of each query and key head", _config, lambda _: HFNames())
