"""Choosing among continuations: the trie that one forward computes, and the methods that decide.

Pure functions on ids and log-probabilities; knows neither pages nor batches. The three methods are
those of SGLang's `select` (Zheng et al. 2024, arXiv:2312.07104), with its names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from furcate.protocol.stream import ChoiceResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.graph import ChoicesMethod

__all__ = ["Place", "Segment", "Trie", "build_trie", "decide"]


class Place(NamedTuple):
    """Where the logits that predict a token come from: token `offset` of segment `segment`, or the
    last token before the choices where `segment` is -1."""

    segment: int
    offset: int


class Segment(NamedTuple):
    """A run of tokens without a branch. It follows `parent`, or the stream itself where that is
    -1, at the parent's last token."""

    parent: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Trie:
    """The tokens of all choices that must be computed to score them, each once.

    The last token of a choice needs no forward unless another choice goes on from it.
    `places[i][j]` predicts token j of choice i. `reached[i]` is the deepest segment on the way of
    choice i (-1: none) and how many of its tokens are on it.
    """

    segments: tuple[Segment, ...]
    places: tuple[tuple[Place, ...], ...]
    reached: tuple[Place, ...]

    @property
    def num_tokens(self) -> int:
        return sum(len(segment.ids) for segment in self.segments)


def build_trie(choices: Sequence[tuple[int, ...]]) -> Trie:
    """Segments come parents first. Choices are non-empty and distinct."""
    segments: list[Segment] = []
    places: list[list[Place]] = [[] for _ in choices]
    reached = [Place(-1, 0) for _ in choices]
    todo: list[tuple[Place, list[int]]] = [(Place(-1, 0), list(range(len(choices))))]
    while todo:
        place, members = todo.pop(0)
        depth = len(places[members[0]])
        groups: dict[int, list[int]] = {}
        for i in members:
            groups.setdefault(choices[i][depth], []).append(i)
        for token, group in groups.items():
            for i in group:
                places[i].append(place)
            going_on = [i for i in group if len(choices[i]) > depth + 1]
            if not going_on:
                continue
            index, run = len(segments), [token]
            while True:
                for i in going_on:
                    reached[i] = Place(index, len(run))
                _note_ended(choices, group, index, depth, len(run), reached)
                shared = {choices[i][depth + len(run)] for i in going_on}
                further = [i for i in going_on if len(choices[i]) > depth + len(run) + 1]
                if len(shared) > 1 or not further:
                    break
                for i in going_on:
                    places[i].append(Place(index, len(run) - 1))
                run.append(shared.pop())
                going_on = further
            segments.append(Segment(place.segment, tuple(run)))
            todo.append((Place(index, len(run) - 1), going_on))
    return Trie(tuple(segments), tuple(map(tuple, places)), tuple(reached))


def _note_ended(
    choices: Sequence[tuple[int, ...]],
    group: list[int],
    index: int,
    depth: int,
    length: int,
    reached: list[Place],
) -> None:
    """A choice that ends with the run's last token has that token computed for another's sake."""
    for i in group:
        if len(choices[i]) == depth + length:
            reached[i] = Place(index, length)


def decide(
    method: ChoicesMethod,
    logprobs: Sequence[Sequence[float]],
    unconditional: Sequence[Sequence[float]] | None,
    temperature: float,
    uniform: float,
) -> ChoiceResult:
    """The winner and what it was judged by. `logprobs[i][j]` is of token j of choice i; `uniform`
    in [0, 1) is the random number of a draw with temperature."""
    means = [sum(row) / len(row) for row in logprobs]
    matrix: tuple[tuple[float, ...], ...] | None = None
    normalized = means
    unconditional_means: tuple[float, ...] | None = None
    if method == "greedy_token_selection":
        matrix = _padded(logprobs, means)
        best = _greedy(matrix)
    elif method == "unconditional_likelihood_normalized":
        assert unconditional is not None
        unconditional_means = tuple(sum(row) / len(row) for row in unconditional)
        normalized = [
            sum(a - b for a, b in zip(row, base, strict=True)) / len(row)
            for row, base in zip(logprobs, unconditional, strict=True)
        ]
        best = _argmax(normalized)
    else:
        best = _argmax(normalized)
    if temperature > 0:
        best = _draw([score / temperature for score in normalized], uniform)
    totals = [sum(row) for row in logprobs]
    return ChoiceResult(
        winner=best,
        token_logprobs=tuple(map(tuple, logprobs)),
        normalized=tuple(normalized),
        probabilities=_softmax(totals),
        label_mass=min(1.0, sum(math.exp(total) for total in totals)),
        greedy_logprob_matrix=matrix,
        unconditional_token_logprobs=(
            None if unconditional is None else tuple(map(tuple, unconditional))
        ),
        normalized_unconditional=unconditional_means,
    )


def _padded(
    logprobs: Sequence[Sequence[float]], means: Sequence[float]
) -> tuple[tuple[float, ...], ...]:
    width = max(map(len, logprobs))
    return tuple(
        tuple(row) + (mean,) * (width - len(row)) for row, mean in zip(logprobs, means, strict=True)
    )


def _greedy(matrix: Sequence[Sequence[float]]) -> int:
    """Column by column keeps the rows equal to the maximum; the first that remains wins."""
    remaining = list(range(len(matrix)))
    for column in range(len(matrix[0])):
        top = max(matrix[i][column] for i in remaining)
        remaining = [i for i in remaining if matrix[i][column] == top]
    return remaining[0]


def _argmax(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=lambda i: (scores[i], -i))


def _softmax(scores: Sequence[float]) -> tuple[float, ...]:
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def _draw(scores: Sequence[float], uniform: float) -> int:
    total = 0.0
    for i, probability in enumerate(_softmax(scores)):
        total += probability
        if uniform < total:
            return i
    return len(scores) - 1
