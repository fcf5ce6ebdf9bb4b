"""DeepSeek V2 and V3: latent attention, and experts that are chosen by groups beside shared ones.

V3 scores experts by sigmoid, with a correction that takes part in the choice alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from furcate.errors import ModelFileError

from .config import ExpertsConfig, FeedForwardConfig, LatentConfig, LayerConfig
from .family import Family
from .hf_decoder import read_activation, read_decoder, read_num_layers
from .hf_names import EXPERT_NAMES, LLAMA_NAMES, HFNames, Part, whole
from .hf_rope import read_rope, read_rope_table
from .rope import yarn_scale

if TYPE_CHECKING:
    from .config import DecoderConfig
    from .hf_config import HFConfig

__all__ = ["V2", "V3"]

NAMES = HFNames(
    {
        **LLAMA_NAMES,
        "attn_q_a": "self_attn.q_a_proj",
        "attn_q_a_norm": "self_attn.q_a_layernorm",
        "attn_q_b": "self_attn.q_b_proj",
        "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
        "attn_kv_a_norm": "self_attn.kv_a_layernorm",
        "attn_kv_b": "self_attn.kv_b_proj",
        "ffn_gate_inp": "mlp.gate",
        "exp_probs_b": Part("mlp.gate.e_score_correction_bias", whole, has_suffix=False),
        "ffn_gate_shexp": "mlp.shared_experts.gate_proj",
        "ffn_up_shexp": "mlp.shared_experts.up_proj",
        "ffn_down_shexp": "mlp.shared_experts.down_proj",
    },
    EXPERT_NAMES,
)


def _v2(config: HFConfig) -> DecoderConfig:
    method = config.text("topk_method", "greedy")
    if method not in ("greedy", "group_limited_greedy"):
        raise ModelFileError(f"topk_method {method!r} is not supported")
    return _decoder(config, _experts(config, has_groups=method != "greedy"))


def _v3(config: HFConfig) -> DecoderConfig:
    return _decoder(config, _experts(config, has_groups=True, is_v3=True))


def _decoder(config: HFConfig, experts: ExpertsConfig) -> DecoderConfig:
    config.refuse("mlp_bias")
    interleaved = config.flag("rope_interleave", True)
    rope = read_rope(config, config.integer("qk_rope_head_dim"), interleaved=interleaved)
    first = config.integer("first_k_dense_replace", 0)
    layers = tuple(
        LayerConfig(rope, has_experts=number >= first) for number in range(read_num_layers(config))
    )
    return read_decoder(config, layers, _attention(config), experts=experts)


def _attention(config: HFConfig) -> LatentConfig:
    nope_dim, rope_dim = config.integer("qk_nope_head_dim"), config.integer("qk_rope_head_dim")
    return LatentConfig(
        num_heads=config.integer("num_attention_heads"),
        query_rank=config.optional_integer("q_lora_rank"),
        kv_rank=config.integer("kv_lora_rank"),
        nope_dim=nope_dim,
        rope_dim=rope_dim,
        value_dim=config.integer("v_head_dim"),
        scale=_sharpening(config) ** 2 / math.sqrt(max(1, nope_dim + rope_dim)),
        bias=config.flag("attention_bias"),
    )


def _sharpening(config: HFConfig) -> float:
    """Queries and keys that are stretched are scaled by this besides, rotated or not."""
    table = read_rope_table(config)
    weight = table.number("mscale_all_dim", 0.0)
    is_stretched = table.text("rope_type", table.text("type", "default")) != "default"
    return yarn_scale(table.number("factor"), weight) if is_stretched and weight else 1.0


def _experts(config: HFConfig, *, has_groups: bool, is_v3: bool = False) -> ExpertsConfig:
    size = config.integer("moe_intermediate_size")
    return ExpertsConfig(
        count=config.integer("n_routed_experts"),
        used=config.integer("num_experts_per_tok"),
        expert=FeedForwardConfig(size, read_activation(config)),
        scores="sigmoid" if is_v3 else "softmax",
        normalised=is_v3 and config.flag("norm_topk_prob", True),
        scale=config.number("routed_scaling_factor", 1.0),
        groups=config.integer("n_group", 1) if has_groups else 1,
        used_groups=config.integer("topk_group", 1) if has_groups else 1,
        group_top=2 if is_v3 else 1,
        choice_bias=is_v3,
        shared_size=size * config.integer("n_shared_experts", 0),
    )


V2 = Family("DeepSeek V2", "latent attention, shared experts", _v2, lambda _: NAMES)
V3 = Family("DeepSeek V3, R1", "V2 with experts by sigmoid and groups", _v3, lambda _: NAMES)
