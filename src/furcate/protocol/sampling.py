"""How one generation samples: the only place where a sampling parameter is declared.

Knows nothing of who sets the values: the language merges a call's own arguments over the run's over
these defaults, HTTP routes map their fields onto the same struct.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
from msgspec import Meta

from furcate.errors import UsageError

from .pattern import check_patterns

__all__ = ["MAX_LOGPROBS", "MAX_SAMPLES", "MAX_STOPS", "Sampling", "check_sampling"]

MAX_SAMPLES = 16
MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_LOGPROBS = 20
MAX_BIASED_IDS = 1024
MAX_BIAS = 100.0

TokenId = Annotated[int, Meta(ge=0, lt=2**31)]


class Sampling(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Sampling parameters of one generation.

    `top_k` -1 and `top_p` 1.0 and `min_p` 0.0 switch those filters off. `temperature` 0.0 is
    greedy. Penalties count the generated tokens of this generation, as OpenAI's do;
    `repetition_penalty` counts the prompt too. `logit_bias` maps token ids to additions in logits.
    `logprobs` is how many alternatives to report for each generated token (0: the sampled token
    alone, None: nothing); `prompt_logprobs` the same for the tokens before it. The output ends
    before the first text that is a `stop` or that a `stop_regex` matches.
    """

    max_tokens: int = 128
    min_tokens: int = 0
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[TokenId, float] = {}
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[TokenId, ...] = ()
    stop_regex: tuple[str, ...] = ()
    ignore_eos: bool = False
    seed: int | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None


_RANGES: dict[str, tuple[float, float]] = {
    "max_tokens": (0, 2**31 - 1),
    "min_tokens": (0, 2**31 - 1),
    "n": (1, MAX_SAMPLES),
    "temperature": (0.0, 100.0),
    "min_p": (0.0, 1.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
    "logprobs": (0, MAX_LOGPROBS),
    "prompt_logprobs": (0, MAX_LOGPROBS),
}


def check_sampling(sampling: Sampling) -> None:
    """Raises UsageError that names the first parameter out of its range, its value and the
    range."""
    for name, (low, high) in _RANGES.items():
        value = getattr(sampling, name)
        if value is not None and not low <= value <= high:  # which no infinity and no nan is
            raise UsageError(f"{name} must be from {low} to {high}, got {value!r}")
    if not (0.0 < sampling.top_p <= 1.0):
        raise UsageError(f"top_p must be above 0 and at most 1, got {sampling.top_p!r}")
    if sampling.top_k != -1 and sampling.top_k < 1:
        raise UsageError(f"top_k must be -1 (off) or at least 1, got {sampling.top_k!r}")
    if not (0.0 < sampling.repetition_penalty <= 10.0):
        raise UsageError(
            f"repetition_penalty must be above 0 and at most 10, "
            f"got {sampling.repetition_penalty!r}"
        )
    if sampling.min_tokens > sampling.max_tokens:
        raise UsageError(
            f"min_tokens must be at most max_tokens ({sampling.max_tokens}), "
            f"got {sampling.min_tokens!r}"
        )
    if sampling.seed is not None and not (-(2**63) <= sampling.seed < 2**64):
        raise UsageError(f"seed must fit in 64 bits, got {sampling.seed!r}")
    _check_stops(sampling.stop)
    check_patterns(sampling.stop_regex)
    _check_bias(sampling.logit_bias)


def _check_stops(stops: tuple[str, ...]) -> None:
    if len(stops) > MAX_STOPS:
        raise UsageError(f"at most {MAX_STOPS} stop strings are allowed, got {len(stops)}")
    for stop in stops:
        if not stop or len(stop) > MAX_STOP_CHARS:
            raise UsageError(
                f"a stop string must have 1 to {MAX_STOP_CHARS} characters, got {stop[:40]!r}"
            )


def _check_bias(bias: dict[int, float]) -> None:
    if len(bias) > MAX_BIASED_IDS:
        raise UsageError(f"logit_bias may name at most {MAX_BIASED_IDS} ids, got {len(bias)}")
    for token_id, value in bias.items():
        if token_id < 0:
            raise UsageError(f"logit_bias has the negative token id {token_id!r}")
        if not (math.isfinite(value) and abs(value) <= MAX_BIAS):
            raise UsageError(
                f"logit_bias of token {token_id} must be from -{MAX_BIAS:g} to {MAX_BIAS:g}, "
                f"got {value!r}"
            )
