"""From keyword arguments to the one Sampling struct: a call's value wins over the run's, the run's
over the struct's default.

The names that users write are declared here once, each with its check; what the values mean is
declared in `furcate.protocol.sampling`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from furcate.errors import UsageError
from furcate.protocol.sampling import MAX_LOGPROBS, Sampling, check_sampling

from ._numbers import is_integer, is_number

__all__ = ["RUN_KEYWORDS", "Keywords", "Report", "collect", "resolve"]

Keywords = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Report:
    """How logprobs are presented: prompt tokens from `start` on, texts beside ids or not."""

    start: int = 0
    with_text: bool = False


def _integer(name: str, value: object) -> int:
    if not is_integer(value):
        raise UsageError(f"{name} must be an integer, got {value!r}")
    return value


def _number(name: str, value: object) -> float:
    if not is_number(value) or not math.isfinite(value):
        raise UsageError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{name} must be True or False, got {value!r}")
    return value


def _stop(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    given: list[object] = list(value) if isinstance(value, Iterable) else [value]
    stops = tuple(stop for stop in given if isinstance(stop, str))
    if len(stops) != len(given):
        raise UsageError(f"{name} must be a string or a list of strings, got {value!r}")
    return stops


def _token_ids(name: str, value: object) -> tuple[int, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise UsageError(f"{name} must be a list of token ids, got {value!r}")
    ids = tuple(_integer(name, item) for item in value)
    if any(not 0 <= token_id < 2**31 for token_id in ids):
        raise UsageError(f"{name} must hold token ids from 0 on, got {value!r}")
    return ids


def _bias(name: str, value: object) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{name} must map token ids to numbers, got {value!r}")
    try:
        bias = {int(token_id): _number(name, amount) for token_id, amount in value.items()}
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} must map token ids to numbers, got {value!r}") from error
    if any(token_id >= 2**31 for token_id in bias):
        raise UsageError(f"{name} names a token id that no model has, got {value!r}")
    return bias


_FIELDS: dict[str, Callable[[str, object], object]] = {
    "max_tokens": _integer,
    "min_tokens": _integer,
    "n": _integer,
    "temperature": _number,
    "top_p": _number,
    "top_k": _integer,
    "min_p": _number,
    "frequency_penalty": _number,
    "presence_penalty": _number,
    "repetition_penalty": _number,
    "logit_bias": _bias,
    "stop": _stop,
    "stop_token_ids": _token_ids,
    "stop_regex": _stop,
    "ignore_eos": _flag,
    "seed": _integer,
}
_ALIASES = {"max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens"}
_REPORT: dict[str, Callable[[str, object], object]] = {
    "return_logprob": _flag,
    "logprob_start_len": _integer,
    "top_logprobs_num": _integer,
    "return_text_in_logprobs": _flag,
}
_OFF = {"logprob_start_len": -1, "top_logprobs_num": 0, "return_text_in_logprobs": False}
_CHECKS = _FIELDS | _REPORT

RUN_KEYWORDS = (frozenset(_CHECKS) | frozenset(_ALIASES)) - {"n", "seed"}
"""What `run()` takes as defaults of every `gen`; its own `seed` is the program's."""


def collect(given: Keywords, allowed: frozenset[str] | None = None) -> dict[str, object]:
    """The values that are not None, under their canonical names, each of its type and in its range.

    Raises TypeError for an unknown name and UsageError for a bad value, naming both.
    """
    values: dict[str, object] = {}
    if not given:
        return values
    for spelling, value in given.items():
        name = _ALIASES.get(spelling, spelling)
        if name not in _CHECKS or (allowed is not None and spelling not in allowed):
            raise TypeError(f"{spelling!r} is not a sampling parameter")
        if value is None:
            continue
        if name in values:
            raise UsageError(f"{name} is given twice, under two names: keep one of them")
        values[name] = _CHECKS[name](spelling, value)
    _check_alone(values)
    return values


def _check_alone(values: Keywords) -> None:
    """Ranges; a limit that another level may still set does not count against these values."""
    fields = {name: value for name, value in values.items() if name in _FIELDS}
    least = fields.get("min_tokens", 0)
    if "max_tokens" not in fields and isinstance(least, int):
        fields["max_tokens"] = max(Sampling().max_tokens, least)
    check_sampling(Sampling(**fields))  # type: ignore[arg-type]  # each was checked by its name
    top = values.get("top_logprobs_num", 0)
    if isinstance(top, int) and not 0 <= top <= MAX_LOGPROBS:
        raise UsageError(f"top_logprobs_num must be from 0 to {MAX_LOGPROBS}, got {top!r}")
    start = values.get("logprob_start_len", -1)
    if isinstance(start, int) and start < -1:
        raise UsageError(f"logprob_start_len must be -1 (off) or a position, got {start!r}")
    detail = [name for name, off in _OFF.items() if values.get(name, off) != off]
    if values.get("return_logprob") is False and detail:
        raise UsageError(f"{detail[0]} has no effect with return_logprob=False: drop one of them")


def resolve(call: Keywords, run: Keywords, more_stops: tuple[str, ...] = ()) -> Sampling:
    """The parameters of one generation. `call` and `run` come from `collect`."""
    merged = {**run, **call}
    fields = {name: value for name, value in merged.items() if name in _FIELDS}
    sampling = Sampling(**fields)  # type: ignore[arg-type]
    if more_stops:
        stops = sampling.stop + tuple(stop for stop in more_stops if stop not in sampling.stop)
        sampling = msgspec.structs.replace(sampling, stop=stops)
    if merged.get("return_logprob"):
        top = merged.get("top_logprobs_num", 0)
        start = merged.get("logprob_start_len", -1)
        sampling = msgspec.structs.replace(
            sampling, logprobs=top, prompt_logprobs=None if start == -1 else top
        )
    else:
        for name, off in _OFF.items():
            if call.get(name, off) != off:
                raise UsageError(f"{name} has no effect without return_logprob=True: add it")
    check_sampling(sampling)
    return sampling


def report(call: Keywords, run: Keywords) -> Report:
    """How the logprobs of a generation are to be presented."""
    merged = {**run, **call}
    start = merged.get("logprob_start_len", 0)
    return Report(
        start=max(start, 0) if isinstance(start, int) else 0,
        with_text=merged.get("return_text_in_logprobs") is True,
    )
