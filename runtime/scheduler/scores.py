"""Log-probabilities that rows ask for beside their draws: of prompts, and of choices.

What is asked for is a list in the order of the rows; each row knows where its own begins.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from furcate.protocol.stream import RawLogprob
from furcate.runtime.engine.executor import Score

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from furcate.runtime.sample.batch import Alternatives, Sampled

    from .branches import Branches
    from .step import Step, StreamRow

__all__ = ["ask_scores", "choice_logprobs", "drawn_logprob", "note_prompt_logprobs"]


def ask_scores(step: Step) -> list[Score]:
    """What the step's rows need; notes in each where its own begin."""
    scores: list[Score] = []
    for row in step.rows:
        row.first_score = len(scores)
        if row.stream.needs_prompt_logprobs:
            scores.extend(_prompt_scores(row))
        if row.branches is not None:
            assert row.stream.choice is not None
            for branches in (row.branches.conditional, row.branches.unconditional):
                if branches is not None:
                    scores.extend(_choice_scores(branches, row.stream.choice.choices))
    return scores


def note_prompt_logprobs(row: StreamRow, scores: Iterator[Alternatives]) -> bool:
    """Takes the row's part of them; False if one is not a number."""
    stream = row.stream
    places = _prompt_places(row)
    if not stream.prompt_logprobs:
        stream.prompt_logprobs.append(RawLogprob(None, stream.tokens[0]))
    for at in places:
        stream.prompt_logprobs.append(_raw_logprob(next(scores), stream.tokens[at]))
    found = stream.prompt_logprobs[places.start :]
    return not any(each.logprob is not None and math.isnan(each.logprob) for each in found)


def choice_logprobs(branches: Branches, scores: Iterator[Alternatives]) -> list[list[float]]:
    """Of each token of each choice."""
    return [[next(scores).logprob for _ in places] for places in branches.trie.places]


def drawn_logprob(sampled: Sampled) -> RawLogprob | None:
    if sampled.logprobs is None or sampled.token_id is None:
        return None
    return _raw_logprob(sampled.logprobs, sampled.token_id)


def _prompt_scores(row: StreamRow) -> Iterator[Score]:
    stream = row.stream
    for at in _prompt_places(row):
        yield Score(row.logit + at - 1 - row.begin, stream.tokens[at], stream.prompt_top)


def _prompt_places(row: StreamRow) -> range:
    """Positions of the prompt whose log-probability the row's logits tell for the first time."""
    active = row.stream.generation
    assert active is not None
    known = max(1, len(row.stream.prompt_logprobs))
    return range(max(known, row.begin + 1), min(row.end + 1, active.start))


def _choice_scores(branches: Branches, choices: Sequence[tuple[int, ...]]) -> Iterator[Score]:
    for ids, places in zip(choices, branches.trie.places, strict=True):
        for token_id, place in zip(ids, places, strict=True):
            first = branches.root if place.segment < 0 else branches.logits[place.segment]
            yield Score(first + place.offset, token_id)


def _raw_logprob(found: Alternatives, token_id: int) -> RawLogprob:
    return RawLogprob(found.logprob, token_id, tuple((lp, alt) for alt, lp in found.top))
