"""Mixtral: a mistral whose feed-forward layers are eight experts, two of them for each token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .config import ExpertsConfig
from .family import Family
from .hf_decoder import (
    read_attention,
    read_decoder,
    read_feed_forward,
    read_layers,
    read_windows,
    with_experts,
)
from .hf_names import LLAMA_NAMES, HFNames

if TYPE_CHECKING:
    from .config import DecoderConfig
    from .hf_config import HFConfig

__all__ = ["FAMILY"]

BASE = 1_000_000.0
NAMES = HFNames(
    {**LLAMA_NAMES, "ffn_gate_inp": "block_sparse_moe.gate"},
    {
        "ffn_gate": "block_sparse_moe.experts.{expert}.w1",
        "ffn_up": "block_sparse_moe.experts.{expert}.w3",
        "ffn_down": "block_sparse_moe.experts.{expert}.w2",
    },
)


def _config(config: HFConfig) -> DecoderConfig:
    feed_forward = read_feed_forward(config)
    experts = ExpertsConfig(
        count=config.integer("num_local_experts", 8),
        used=config.integer("num_experts_per_tok", 2),
        expert=feed_forward,
        normalised=True,
    )
    layers = with_experts(read_layers(config, windows=read_windows(config), base=BASE))
    return read_decoder(config, layers, read_attention(config), feed_forward, experts)


FAMILY = Family("Mixtral", "experts", _config, lambda _: NAMES)
