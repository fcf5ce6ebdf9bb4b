"""How a transformers config.json says that positions are told, in its older and newer spellings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from furcate.errors import ModelFileError

from .config import RopeConfig
from .hf_config import as_number
from .rope import llama3_divisors, longrope_scale, yarn_divisors, yarn_scale

if TYPE_CHECKING:
    from collections.abc import Callable

    from .hf_config import HFConfig

__all__ = ["read_max_context", "read_rope", "read_rope_table", "with_long_rope"]

ORIGINAL = "original_max_position_embeddings"
LONG_ROPE = ("longrope", "su")
ALWAYS_LONG = "always_long"  # a setting of ours, in no file


class Stretch(NamedTuple):
    """What a rope type makes of the frequencies; how is in RopeConfig."""

    divisors: tuple[float, ...] = ()
    scale: float = 1.0


class Ask(NamedTuple):
    """What there is to stretch, and the settings that say how."""

    config: HFConfig
    table: HFConfig
    base: float
    size: int

    @property
    def original_context(self) -> int:
        longest = self.config.integer("max_position_embeddings")
        return self.config.integer(ORIGINAL, self.table.integer(ORIGINAL, longest))

    @property
    def factor(self) -> float:
        longest = self.config.integer("max_position_embeddings")
        return self.table.number("factor", longest / max(1, self.original_context))


def read_rope(
    config: HFConfig,
    head_dim: int,
    layer_type: str | None = None,
    *,
    interleaved: bool = False,
    base: float = 10_000.0,
) -> RopeConfig:
    """How heads are rotated, in layers of that type where types have tables of their own. `base` is
    the family's, for files that do not say."""
    table = read_rope_table(config, layer_type)
    share = table.number("partial_rotary_factor", config.number("partial_rotary_factor", 1.0))
    base = table.number("rope_theta", config.number("rope_theta", base))
    plain = RopeConfig(base, int(head_dim * share), interleaved)
    kind = _kind(table)
    if kind not in STRETCHES:
        raise ModelFileError(
            f"rope_type {kind!r} is not supported; supported: {', '.join(map(repr, STRETCHES))}"
        )
    stretch = STRETCHES[kind](Ask(config, table, plain.base, plain.size))
    return replace(plain, divisors=stretch.divisors, scale=stretch.scale)


def with_long_rope(config: HFConfig) -> HFConfig:
    """The settings of a model that tells all positions as it does in texts beyond its original
    context; the same ones where it has no long rope."""
    table = read_rope_table(config)
    if _kind(table) not in LONG_ROPE:
        return config
    factors = {"short_factor": table.sequence("long_factor"), ALWAYS_LONG: True}
    return config.with_table(_rope_key(config), factors)


def _rope_key(config: HFConfig) -> str:
    return "rope_parameters" if config.has("rope_parameters") else "rope_scaling"


def read_rope_table(config: HFConfig, layer_type: str | None = None) -> HFConfig:
    table = config.table(_rope_key(config))
    return table.table(layer_type) if layer_type and table.has(layer_type) else table


def read_max_context(config: HFConfig) -> int:
    """The longest context. Dynamic and long rope turn keys by the length of what comes after them,
    which no cache of keys can follow, so they are served up to the length in which they do not
    change, or long from the first token on."""
    longest = config.integer("max_position_embeddings")
    table = read_rope_table(config)
    if _kind(table) in LONG_ROPE and not table.flag(ALWAYS_LONG):
        return min(longest, Ask(config, table, 1.0, 0).original_context)
    return longest


def _kind(table: HFConfig) -> str:
    return table.text("rope_type", table.text("type", "default"))


def _none(ask: Ask) -> Stretch:
    return Stretch()


def _linear(ask: Ask) -> Stretch:
    return Stretch((ask.table.number("factor"),) * (ask.size // 2))


def _llama3(ask: Ask) -> Stretch:
    divisors = llama3_divisors(
        ask.base,
        ask.size,
        factor=ask.table.number("factor"),
        low_frequency_factor=ask.table.number("low_freq_factor"),
        high_frequency_factor=ask.table.number("high_freq_factor"),
        original_context=ask.table.integer(ORIGINAL),
    )
    return Stretch(divisors)


def _yarn(ask: Ask) -> Stretch:
    table = ask.table
    divisors = yarn_divisors(
        ask.base,
        ask.size,
        factor=ask.factor,
        beta_fast=table.number("beta_fast", 32.0),
        beta_slow=table.number("beta_slow", 1.0),
        original_context=ask.original_context,
        truncate=table.flag("truncate", True),
    )
    weight, whole = table.number("mscale", 0.0), table.number("mscale_all_dim", 0.0)
    if weight and whole:
        scale = yarn_scale(ask.factor, weight) / yarn_scale(ask.factor, whole)
    else:
        scale = yarn_scale(ask.factor)
    return Stretch(divisors, table.number("attention_factor", scale))


def _longrope(ask: Ask) -> Stretch:
    factors = ask.table.sequence("short_factor")
    divisors = tuple(as_number("short_factor", factor) for factor in factors)
    scale = longrope_scale(ask.factor, ask.original_context)
    return Stretch(divisors, ask.table.number("attention_factor", scale))


STRETCHES: dict[str, Callable[[Ask], Stretch]] = {
    "default": _none,
    "linear": _linear,
    "dynamic": _none,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "su": _longrope,  # longrope's first name
}
