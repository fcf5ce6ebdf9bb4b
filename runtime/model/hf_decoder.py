"""The part of a transformers config.json that decoder families share, as a DecoderConfig.

A family's module takes these and changes what it does differently. Knows no family.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from furcate.errors import ModelFileError

from .config import (
    MAX_LAYERS,
    AttentionConfig,
    DecoderConfig,
    FeedForwardConfig,
    LatentConfig,
    LayerConfig,
)
from .hf_rope import read_max_context, read_rope

if TYPE_CHECKING:
    from collections.abc import Collection

    from .config import Activation, ExpertsConfig
    from .hf_config import HFConfig

__all__ = [
    "read_activation",
    "read_alternating_windows",
    "read_attention",
    "read_decoder",
    "read_feed_forward",
    "read_head_dim",
    "read_layers",
    "read_num_layers",
    "read_windows",
    "with_experts",
]

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def read_num_layers(config: HFConfig) -> int:
    """Checked here, before lists of that length are made."""
    count = config.integer("num_hidden_layers")
    if not 1 <= count <= MAX_LAYERS:
        raise ModelFileError(f"num_hidden_layers must be from 1 to {MAX_LAYERS}, got {count!r}")
    return count


def read_head_dim(config: HFConfig) -> int:
    num_heads = config.integer("num_attention_heads")
    return config.integer("head_dim", config.integer("hidden_size") // max(1, num_heads))


def read_activation(
    config: HFConfig, key: str = "hidden_act", default: Activation = "silu"
) -> Activation:
    if not config.has(key):
        return default
    name = config.text(key)
    if name not in ACTIVATIONS:
        known = ", ".join(map(repr, ACTIVATIONS))
        raise ModelFileError(f"{key} {name!r} is not supported; supported: {known}")
    return ACTIVATIONS[name]


def read_attention(config: HFConfig) -> AttentionConfig:
    num_heads = config.integer("num_attention_heads")
    size = read_head_dim(config)
    has_bias = config.flag("attention_bias")
    return AttentionConfig(
        num_heads=num_heads,
        kv_heads=config.integer("num_key_value_heads", num_heads),
        head_dim=size,
        scale=1.0 / math.sqrt(max(1, size)),
        qkv_bias=has_bias,
        output_bias=has_bias,
    )


def read_windows(config: HFConfig) -> tuple[int | None, ...]:
    """The attention window of each layer: by `layer_types`, else the same for all."""
    count = read_num_layers(config)
    window = config.optional_integer("sliding_window")
    if not config.has("layer_types"):
        return (window,) * count
    kinds = config.sequence("layer_types", count)
    for kind in kinds:
        if kind not in ("full_attention", "sliding_attention"):
            raise ModelFileError(f"layer type {kind!r} is not supported")
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def read_alternating_windows(config: HFConfig) -> tuple[int | None, ...]:
    """By `layer_types`, else of every other layer, the first one's included."""
    if config.has("layer_types"):
        return read_windows(config)
    window = config.integer("sliding_window")
    return tuple(None if number % 2 else window for number in range(read_num_layers(config)))


def read_layers(
    config: HFConfig,
    *,
    windows: tuple[int | None, ...] | None = None,
    base: float = 10_000.0,
) -> tuple[LayerConfig, ...]:
    """Layers that rotate alike."""
    rope = read_rope(config, read_head_dim(config), base=base)
    return tuple(
        LayerConfig(rope, window) for window in windows or (None,) * read_num_layers(config)
    )


def with_experts(
    layers: tuple[LayerConfig, ...], dense: Collection[object] = (), step: int = 1
) -> tuple[LayerConfig, ...]:
    """Every `step`th layer has experts, unless its number is in `dense`."""
    return tuple(
        replace(layer, has_experts=number not in dense and (number + 1) % max(1, step) == 0)
        for number, layer in enumerate(layers)
    )


def read_decoder(
    config: HFConfig,
    layers: tuple[LayerConfig, ...],
    attention: AttentionConfig | LatentConfig,
    feed_forward: FeedForwardConfig | None = None,
    experts: ExpertsConfig | None = None,
    *,
    tied: bool = False,
) -> DecoderConfig:
    """`tied` is the family's habit, for files that do not say."""
    return DecoderConfig(
        vocab_size=config.integer("vocab_size"),
        hidden_size=config.integer("hidden_size"),
        max_context=read_max_context(config),
        norm_eps=config.number("rms_norm_eps", 1e-6),
        attention=attention,
        feed_forward=feed_forward or read_feed_forward(config),
        layers=layers,
        experts=experts,
        tied_embeddings=config.flag("tie_word_embeddings", tied),
    )


def read_feed_forward(config: HFConfig) -> FeedForwardConfig:
    return FeedForwardConfig(
        config.integer("intermediate_size"), read_activation(config), config.flag("mlp_bias")
    )
