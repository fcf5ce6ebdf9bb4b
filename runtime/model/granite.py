"""Granite: a llama with factors at the embedding, scores, residual stream and logits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .family import Family
from .hf_decoder import read_attention, read_decoder, read_layers
from .hf_names import HFNames

if TYPE_CHECKING:
    from .config import DecoderConfig
    from .hf_config import HFConfig

__all__ = ["FAMILY"]


def _config(config: HFConfig) -> DecoderConfig:
    scaled = replace(read_attention(config), scale=config.number("attention_multiplier", 1.0))
    return replace(
        read_decoder(config, read_layers(config), scaled),
        embedding_scale=config.number("embedding_multiplier", 1.0),
        residual_scale=config.number("residual_multiplier", 1.0),
        logit_scale=1.0 / config.number("logits_scaling", 1.0),
    )


FAMILY = Family("Granite 3", "four multipliers", _config, lambda _: HFNames())
