"""From an answer to an output: where it is cut, and what is told of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from furcate.protocol.stream import ChoiceResult, RawLogprob

from .words import words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from furcate.protocol.sampling import Sampling

__all__ = ["Output", "choice_result", "cut", "logprobs"]

SURE, UNSURE = -0.5, -2.0  # the log-probability of what was chosen, and of what was not


class Output(NamedTuple):
    words: list[str]
    finish: Literal["stop", "eos", "length"]
    matched: str | None = None


def cut(text: str, stops: Iterable[str], sampling: Sampling) -> Output:
    """At the first stop, or after the last word that `max_tokens` allows."""
    stop = min(_stops(text, stops, sampling.stop_regex), default=None)
    if stop is not None:
        text = text[: stop[0]]
    words = words_of(text)
    if len(words) > sampling.max_tokens:
        return Output(words[: sampling.max_tokens], "length")
    return Output(words, "eos") if stop is None else Output(words, "stop", stop[1])


def _stops(text: str, stops: Iterable[str], patterns: Iterable[str]) -> Iterable[tuple[int, str]]:
    for stop in stops:
        if (place := text.find(stop)) >= 0:
            yield place, stop
    for pattern in patterns:
        if found := re.search(pattern, text):
            yield found.start(), found.group()


def logprobs(ids: Iterable[int], num_top: int | None) -> tuple[RawLogprob, ...] | None:
    """Made up, one for each token."""
    if num_top is None:
        return None
    return tuple(
        RawLogprob(SURE, each, tuple((SURE - rank, each) for rank in range(num_top)))
        for each in ids
    )


def choice_result(choices: Sequence[Sequence[int]], winner: int) -> ChoiceResult:
    """Made up, in favour of the winner."""
    scores = tuple(SURE if index == winner else UNSURE for index in range(len(choices)))
    others = len(choices) - 1
    best = 0.8 if others else 1.0
    return ChoiceResult(
        winner,
        tuple((score,) * len(ids) for score, ids in zip(scores, choices, strict=True)),
        scores,
        tuple(best if index == winner else 0.2 / others for index in range(len(choices))),
        0.75,
    )
