"""Phi-3 and Phi-4: a llama with fused projections, long rope, and heads turned in part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .config import AttentionConfig
from .family import Family
from .hf_decoder import read_attention, read_decoder, read_layers, read_windows
from .hf_names import LLAMA_NAMES, HFNames, Part, rows

if TYPE_CHECKING:
    from .config import DecoderConfig
    from .hf_config import HFConfig

__all__ = ["FAMILY"]


def _config(config: HFConfig) -> DecoderConfig:
    layers = read_layers(config, windows=read_windows(config))
    return read_decoder(config, layers, read_attention(config))


def _names(config: DecoderConfig) -> HFNames:
    heads, wide = config.attention, config.feed_forward.size
    assert isinstance(heads, AttentionConfig)
    query, kv = heads.num_heads * heads.head_dim, heads.kv_heads * heads.head_dim
    qkv, gate_up = "self_attn.qkv_proj", "mlp.gate_up_proj"
    return HFNames(
        {
            **LLAMA_NAMES,
            "attn_q": Part(qkv, rows(0, query)),
            "attn_k": Part(qkv, rows(query, kv)),
            "attn_v": Part(qkv, rows(query + kv, kv)),
            "ffn_gate": Part(gate_up, rows(0, wide)),
            "ffn_up": Part(gate_up, rows(wide, wide)),
        }
    )


FAMILY = Family("Phi-3, Phi-4", "fused projections, partial and long rope", _config, _names)
