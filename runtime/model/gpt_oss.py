"""gpt-oss: experts with clamped gates and biases, attention sinks, and every other layer with a
window.

Checkpoints hold the experts of a layer in one tensor, transposed, with gates and ups in turn.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from furcate.errors import ModelFileError
from furcate.kernels.clamped_swiglu import ALPHA, LIMIT

from .config import ExpertsConfig, FeedForwardConfig
from .family import Family
from .hf_decoder import (
    read_alternating_windows,
    read_attention,
    read_decoder,
    read_layers,
    with_experts,
)
from .hf_names import LLAMA_NAMES, HFNames, Part, whole

if TYPE_CHECKING:
    from .config import DecoderConfig
    from .hf_config import HFConfig
    from .hf_names import Take

__all__ = ["FAMILY"]

BASE = 150_000.0


def _config(config: HFConfig) -> DecoderConfig:
    for key, known in (("swiglu_alpha", ALPHA), ("swiglu_limit", LIMIT)):
        if config.number(key, known) != known:
            raise ModelFileError(
                f"{key} {config.number(key)!r} is not supported; it must be {known}"
            )
    expert = FeedForwardConfig(config.integer("intermediate_size"), "clamped_swiglu", bias=True)
    experts = ExpertsConfig(
        count=config.integer("num_local_experts"),
        used=config.integer("num_experts_per_tok"),
        expert=expert,
        scores="softmax of chosen",
        router_bias=True,
    )
    layers = with_experts(read_layers(config, windows=read_alternating_windows(config), base=BASE))
    with_sinks = replace(read_attention(config), qkv_bias=True, output_bias=True, sinks=True)
    return read_decoder(config, layers, with_sinks, expert, experts)


def _columns(first: int, step: int) -> Take:
    """Of an expert's matrix [in, out]: every `step`th output, as [out, in]."""
    return lambda tensor, expert: tensor[expert, :, first::step].t()


def _entries(first: int, step: int) -> Take:
    return lambda tensor, expert: tensor[expert, first::step]


def _stored(part: str, take: Take) -> Part:
    return Part(f"mlp.experts.{part}", take, has_suffix=False)


NAMES = HFNames(
    {
        **LLAMA_NAMES,
        "attn_sinks": Part("self_attn.sinks", whole, has_suffix=False),
        "ffn_gate_inp": "mlp.router",
    },
    {
        "ffn_gate.weight": _stored("gate_up_proj", _columns(0, 2)),
        "ffn_up.weight": _stored("gate_up_proj", _columns(1, 2)),
        "ffn_down.weight": _stored("down_proj", _columns(0, 1)),
        "ffn_gate.bias": _stored("gate_up_proj_bias", _entries(0, 2)),
        "ffn_up.bias": _stored("gate_up_proj_bias", _entries(1, 2)),
        "ffn_down.bias": _stored("down_proj_bias", _entries(0, 1)),
    },
)

FAMILY = Family(
    "gpt-oss", "experts with clamped gates, sinks, local layers", _config, lambda _: NAMES
)
