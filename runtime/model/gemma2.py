"""Gemma 2: norms around sublayers, GELU, capped scores and logits, and every other layer with a
window.

Checkpoints store norms less one.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from .config import FeedForwardConfig
from .family import Family
from .hf_decoder import (
    read_activation,
    read_alternating_windows,
    read_attention,
    read_decoder,
    read_layers,
)
from .hf_names import LLAMA_NAMES, HFNames, Part

if TYPE_CHECKING:
    from torch import Tensor

    from .config import AttentionConfig, DecoderConfig, LayerConfig
    from .hf_config import HFConfig

__all__ = ["FAMILY", "GEMMA_NAMES", "gemma_attention", "gemma_decoder"]


def _plus_one(weight: Tensor, _: int) -> Tensor:
    return weight.float() + 1.0


GEMMA_NAMES = HFNames(
    {
        **LLAMA_NAMES,
        "output_norm": Part("norm", _plus_one),
        "attn_norm": Part("input_layernorm", _plus_one),
        "post_attention_norm": Part("post_attention_layernorm", _plus_one),
        "ffn_norm": Part("pre_feedforward_layernorm", _plus_one),
        "post_ffw_norm": Part("post_feedforward_layernorm", _plus_one),
        "attn_q_norm": Part("self_attn.q_norm", _plus_one),
        "attn_k_norm": Part("self_attn.k_norm", _plus_one),
    }
)


def _config(config: HFConfig) -> DecoderConfig:
    layers = read_layers(config, windows=read_alternating_windows(config))
    return gemma_decoder(config, layers, gemma_attention(config))


def gemma_decoder(
    config: HFConfig, layers: tuple[LayerConfig, ...], attention: AttentionConfig
) -> DecoderConfig:
    """What Gemmas share."""
    feed_forward = FeedForwardConfig(
        config.integer("intermediate_size"),
        read_activation(config, "hidden_activation", "gelu_tanh"),
    )
    return replace(
        read_decoder(config, layers, attention, feed_forward, tied=True),
        norms="around",
        embedding_scale=math.sqrt(config.integer("hidden_size")),
        logit_softcap=config.optional_number("final_logit_softcapping"),
    )


def gemma_attention(config: HFConfig) -> AttentionConfig:
    config.refuse("use_bidirectional_attention")
    return replace(
        read_attention(config),
        scale=1.0 / math.sqrt(config.number("query_pre_attn_scalar", 256.0)),
        softcap=config.optional_number("attn_logit_softcapping"),
    )


FAMILY = Family(
    "Gemma 2", "norms around sublayers, caps, local layers", _config, lambda _: GEMMA_NAMES
)
