"""The facts of a decoder: sizes, and what its family does differently from others.

Every number is checked here once; the rest of the model trusts them. Knows no file and no family.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from furcate.errors import ModelFileError

__all__ = [
    "Activation",
    "AttentionConfig",
    "DecoderConfig",
    "ExpertsConfig",
    "FeedForwardConfig",
    "LatentConfig",
    "LayerConfig",
    "RopeConfig",
]

MAX_LAYERS = 1024
MAX_WIDTH = 1 << 20

Activation = Literal["silu", "gelu_tanh", "clamped_swiglu"]


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """How `size` dimensions of a head are turned. `divisors` divide the frequencies one by one, if
    any; `scale` multiplies cosines and sines."""

    base: float
    size: int
    interleaved: bool = False
    divisors: tuple[float, ...] = ()
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_range("rope size", self.size, 1, MAX_WIDTH)
        if self.size % 2:
            raise ModelFileError(f"the dimensions that are rotated must be even, got {self.size!r}")
        _check_positive("rope_base", self.base)
        _check_positive("rope scale", self.scale)
        if self.divisors and len(self.divisors) != self.size // 2:
            raise ModelFileError(
                f"there must be {self.size // 2} rope divisors, got {len(self.divisors)}"
            )
        if not all(math.isfinite(value) and value > 0 for value in self.divisors):
            raise ModelFileError(f"rope divisors must be positive, got {self.divisors!r:.200}")


@dataclass(frozen=True, slots=True)
class AttentionConfig:
    """Grouped-query attention. `qk_norm` normalises queries and keys head by head, or all heads of
    a token as one row. `sinks`: each head has a logit that takes weight and gives no value."""

    num_heads: int
    kv_heads: int
    head_dim: int
    scale: float  # of the scores
    softcap: float | None = None  # scores go through softcap * tanh(score / softcap)
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: Literal["none", "head", "token"] = "none"
    sinks: bool = False

    def __post_init__(self) -> None:
        for name in ("num_heads", "kv_heads", "head_dim"):
            _check_range(name, getattr(self, name), 1, MAX_WIDTH)
        if self.num_heads % self.kv_heads or self.kv_heads > self.num_heads:
            raise ModelFileError(
                f"the {self.num_heads} attention heads must be a multiple of the kv heads, "
                f"got {self.kv_heads!r}"
            )
        if self.head_dim % 2:
            raise ModelFileError(f"head_dim must be even, got {self.head_dim!r}")
        _check_positive("the attention scale", self.scale)
        if self.softcap is not None:
            _check_positive("the attention softcap", self.softcap)


@dataclass(frozen=True, slots=True)
class LatentConfig:
    """Multi-head latent attention: keys and values of all heads come from one vector of `kv_rank`
    numbers a token, besides `rope_dim` rotated ones. "absorbed" keeps that vector in the cache and
    takes it for key and value at once; "plain" keeps the keys and values of every head."""

    num_heads: int
    query_rank: int | None  # None: queries are projected at once
    kv_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    scale: float
    bias: bool = False
    form: Literal["absorbed", "plain"] = "absorbed"

    def __post_init__(self) -> None:
        for name in ("num_heads", "kv_rank", "nope_dim", "rope_dim", "value_dim"):
            _check_range(name, getattr(self, name), 1, MAX_WIDTH)
        if self.query_rank is not None:
            _check_range("query_rank", self.query_rank, 1, MAX_WIDTH)
        _check_positive("the attention scale", self.scale)
        if self.value_dim > self.query_dim:
            raise ModelFileError(
                f"values of {self.value_dim} dimensions beside keys of {self.query_dim} are not "
                "supported"
            )

    @property
    def query_dim(self) -> int:
        """Of a head's query and key in the plain form."""
        return self.nope_dim + self.rope_dim

    @property
    def kv_heads(self) -> int:
        """Of the cache."""
        return 1 if self.form == "absorbed" else self.num_heads

    @property
    def head_dim(self) -> int:
        """Of the cache."""
        return self.kv_rank + self.rope_dim if self.form == "absorbed" else self.query_dim


@dataclass(frozen=True, slots=True)
class FeedForwardConfig:
    """A gated feed-forward layer."""

    size: int
    activation: Activation = "silu"
    bias: bool = False

    def __post_init__(self) -> None:
        _check_range("ffn_size", self.size, 1, MAX_WIDTH)


@dataclass(frozen=True, slots=True)
class ExpertsConfig:
    """A mixture of experts. `scores`: softmax over all experts, sigmoid, or softmax over those that
    are chosen. With groups, experts are chosen from the `used_groups` best groups only, where a
    group is worth the sum of its `group_top` best scores."""

    count: int
    used: int
    expert: FeedForwardConfig
    scores: Literal["softmax", "sigmoid", "softmax of chosen"] = "softmax"
    normalised: bool = False  # the weights of a token are divided by their sum
    scale: float = 1.0  # of the weights
    groups: int = 1
    used_groups: int = 1
    group_top: int = 1
    router_bias: bool = False  # added to the logits
    choice_bias: bool = False  # added to the scores for the choice alone
    shared_size: int = 0  # of the feed-forward layer that every token goes through besides

    def __post_init__(self) -> None:
        _check_range("the number of experts", self.count, 1, MAX_WIDTH)
        _check_range("the experts of a token", self.used, 1, self.count)
        _check_range("the number of expert groups", self.groups, 1, self.count)
        _check_range("the expert groups of a token", self.used_groups, 1, self.groups)
        if self.count % self.groups or self.used > self.count // self.groups * self.used_groups:
            raise ModelFileError(
                f"{self.count} experts in {self.groups} groups do not give {self.used} of "
                f"{self.used_groups} groups"
            )
        _check_range("group_top", self.group_top, 1, self.count // self.groups)
        if self.shared_size:
            _check_range("the size of shared experts", self.shared_size, 1, MAX_WIDTH)


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """What differs from layer to layer. No rope: positions are not told. A window of n: a token
    sees itself and the n - 1 before it."""

    rope: RopeConfig | None
    window: int | None = None
    has_experts: bool = False

    def __post_init__(self) -> None:
        if self.window is not None:
            _check_range("the attention window", self.window, 1, 2**31 - 1)


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Facts of one model. `norms` says where a sublayer is normalised: its input ("before"), its
    output ("after") or both ("around")."""

    vocab_size: int
    hidden_size: int
    max_context: int
    norm_eps: float
    attention: AttentionConfig | LatentConfig
    feed_forward: FeedForwardConfig
    layers: tuple[LayerConfig, ...]
    experts: ExpertsConfig | None = None
    norms: Literal["before", "after", "around"] = "before"
    tied_embeddings: bool = False
    embedding_scale: float = 1.0
    residual_scale: float = 1.0  # of what a sublayer adds
    logit_scale: float = 1.0
    logit_softcap: float | None = None

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def __post_init__(self) -> None:
        _check_range("vocab_size", self.vocab_size, 1, MAX_WIDTH)
        _check_range("hidden_size", self.hidden_size, 1, MAX_WIDTH)
        _check_range("num_layers", self.num_layers, 1, MAX_LAYERS)
        _check_range("max_context", self.max_context, 1, 2**31 - 1)
        for name in ("norm_eps", "embedding_scale", "residual_scale", "logit_scale"):
            _check_positive(name, getattr(self, name))
        if self.logit_softcap is not None:
            _check_positive("logit_softcap", self.logit_softcap)
        width = self.attention.head_dim if isinstance(self.attention, AttentionConfig) else None
        for layer in self.layers:
            if width is not None and layer.rope is not None and layer.rope.size > width:
                raise ModelFileError(
                    f"heads of {width} dimensions cannot have {layer.rope.size} of them rotated"
                )
            if layer.has_experts and self.experts is None:
                raise ModelFileError("a layer has experts, and the config does not say which")


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ModelFileError(f"{name} must be from {low} to {high}, got {value!r}")


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ModelFileError(f"{name} must be a positive number, got {value!r}")
