"""Qwen3 with experts: many small ones, in all layers but those that are named."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .config import ExpertsConfig, FeedForwardConfig
from .family import Family
from .hf_decoder import (
    read_activation,
    read_attention,
    read_decoder,
    read_layers,
    read_windows,
    with_experts,
)
from .hf_names import EXPERT_NAMES, LLAMA_NAMES, HFNames

if TYPE_CHECKING:
    from .config import DecoderConfig
    from .hf_config import HFConfig

__all__ = ["FAMILY"]

NAMES = HFNames({**LLAMA_NAMES, "ffn_gate_inp": "mlp.gate"}, EXPERT_NAMES)


def _config(config: HFConfig) -> DecoderConfig:
    experts = ExpertsConfig(
        count=config.integer("num_experts", config.integer("num_local_experts", 128)),
        used=config.integer("num_experts_per_tok"),
        expert=FeedForwardConfig(config.integer("moe_intermediate_size"), read_activation(config)),
        normalised=config.flag("norm_topk_prob"),
    )
    windows = read_windows(config) if config.flag("use_sliding_window") else None
    layers = with_experts(
        read_layers(config, windows=windows),
        _dense_layers(config),
        config.integer("decoder_sparse_step", 1),
    )
    with_norm = replace(read_attention(config), qk_norm="head")
    return read_decoder(config, layers, with_norm, experts=experts)


def _dense_layers(config: HFConfig) -> frozenset[object]:
    return frozenset(config.sequence("mlp_only_layers") if config.has("mlp_only_layers") else ())


FAMILY = Family("Qwen3 MoE", "Qwen3 with experts", _config, lambda _: NAMES)
