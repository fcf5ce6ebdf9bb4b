"""OLMo 2: norms after each sublayer instead of before, and of all queries and keys of a token."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .family import Family
from .hf_decoder import read_attention, read_decoder, read_layers
from .hf_names import LLAMA_NAMES, HFNames

if TYPE_CHECKING:
    from .config import DecoderConfig
    from .hf_config import HFConfig

__all__ = ["FAMILY"]

NAMES = HFNames(
    {
        **LLAMA_NAMES,
        "post_attention_norm": "post_attention_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    }
)


def _config(config: HFConfig) -> DecoderConfig:
    with_norm = replace(read_attention(config), qk_norm="token")
    return replace(read_decoder(config, read_layers(config), with_norm), norms="after")


FAMILY = Family("OLMo 2", "norms after sublayers, norm of q and k", _config, lambda _: NAMES)
