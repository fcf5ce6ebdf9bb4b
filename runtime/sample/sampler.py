"""Draws one token for each row of logits.

The order of a row: logit bias, penalties (frequency and presence, then repetition), mask and
banned ids, temperature, top-k, top-p, min-p, draw. Temperature 0 takes the largest logit, of equal
ones the lowest id. Every step sees its own row only, so a draw is bit for bit the same alone and in
a batch. Does not know streams, grammars or stop conditions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .adjust import adjust, is_adjusted
from .batch import Sampled
from .draw import Filter, draw_from_candidates, draw_from_weights, ranked
from .logprobs import log_probs
from .rng import uniform
from .weights import softmax_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .batch import Alternatives, SampleRow

__all__ = ["Sampler", "log_probs"]

# From one number of ranked ids to the next, while top-p or min-p has not met its end.
RANK_GROWTH = 16


class Sampler:
    """Stateless; `sample` may be called from any thread."""

    @torch.inference_mode()
    def sample(self, logits: Tensor, rows: Sequence[SampleRow]) -> list[Sampled]:
        """One token for each row of `logits`, float32 [L, vocab_size], which is left as it is.

        The token is None where nothing may be drawn, and where the largest logit is not a finite
        number; `are_broken` tells the second from the first.
        """
        if logits.shape[0] != len(rows):
            raise ValueError(f"there are {logits.shape[0]} rows of logits for {len(rows)} rows")
        if not rows:
            return []
        adjusted = _adjusted(logits, rows)
        best = adjusted.argmax(-1, keepdim=True)  # [L, 1]
        is_drawable = adjusted.gather(-1, best).isfinite()[:, 0].tolist()
        tokens: list[int | None] = [
            token if drawable else None
            for token, drawable in zip(best[:, 0].tolist(), is_drawable, strict=True)
        ]
        random = [
            n for n, row in enumerate(rows) if is_drawable[n] and row.sampling.temperature > 0.0
        ]
        plain = [n for n in random if Filter.of(rows[n].sampling).is_off]
        filtered = [n for n in random if not Filter.of(rows[n].sampling).is_off]
        if plain:
            _draw_plain(adjusted, rows, plain, tokens)
        if filtered:
            _draw_filtered(adjusted, rows, filtered, tokens)
        return _with_logprobs(logits, rows, tokens)


def _adjusted(logits: Tensor, rows: Sequence[SampleRow]) -> Tensor:
    changed = [n for n, row in enumerate(rows) if is_adjusted(row)]
    if not changed:
        return logits
    adjusted = logits.clone()
    lines = adjusted.numpy()
    for n in changed:
        adjust(lines[n], rows[n])
    return adjusted


def _draw_plain(
    logits: Tensor, rows: Sequence[SampleRow], places: list[int], tokens: list[int | None]
) -> None:
    """Rows with a temperature and no filter: no sort, one pass over the weights."""
    temperatures = [rows[n].sampling.temperature for n in places]
    weights = softmax_weights(logits[places], temperatures)
    for index, n in enumerate(places):
        u = uniform(rows[n].seed, rows[n].index)
        tokens[n] = draw_from_weights(weights.blocks[index], weights.block_sums[index], u)


def _draw_filtered(
    logits: Tensor, rows: Sequence[SampleRow], places: list[int], tokens: list[int | None]
) -> None:
    """Rows with filters: the best ids of each, as many as its filters turn out to need."""
    filters = {n: Filter.of(rows[n].sampling) for n in places}
    totals = _totals(logits, [n for n in places if filters[n].needs_total], filters)
    vocab_size = logits.shape[1]
    pending: dict[int, list[int]] = {}
    for n in places:
        pending.setdefault(filters[n].first_rank(vocab_size), []).append(n)
    while pending:
        count, open_rows = pending.popitem()
        chosen = logits[open_rows]
        thresholds = _thresholds(chosen, count)
        lines = chosen.numpy()
        for index, n in enumerate(open_rows):
            token = draw_from_candidates(
                lines[index],
                ranked(lines[index], thresholds[index]),
                filters[n],
                totals.get(n, 0.0),
                thresholds[index] == -torch.inf,
                uniform(rows[n].seed, rows[n].index),
            )
            if token is None:
                wider = min(count * RANK_GROWTH, vocab_size)
                pending.setdefault(wider, []).append(n)
            tokens[n] = token


def _thresholds(logits: Tensor, count: int) -> list[float]:
    """The `count`-th best logit of each row."""
    if count == logits.shape[1]:
        return [-torch.inf] * logits.shape[0]
    thresholds: list[float] = logits.topk(count, sorted=False).values.amin(-1).tolist()
    return thresholds


def _totals(logits: Tensor, places: list[int], filters: dict[int, Filter]) -> dict[int, float]:
    if not places:
        return {}
    weights = softmax_weights(logits[places], [filters[n].temperature for n in places])
    return {n: weights.total(index) for index, n in enumerate(places)}


def _with_logprobs(
    logits: Tensor, rows: Sequence[SampleRow], tokens: list[int | None]
) -> list[Sampled]:
    queries = [
        (n, token, row.num_logprobs)
        for n, (row, token) in enumerate(zip(rows, tokens, strict=True))
        if row.num_logprobs is not None and token is not None
    ]
    found: dict[int, Alternatives] = {}
    if queries:
        answers = log_probs(logits, queries)
        found = {n: answer for (n, _, _), answer in zip(queries, answers, strict=True)}
    return [
        Sampled(token, found.get(n), token is None and not bool(logits[n].amax().isfinite()))
        for n, token in enumerate(tokens)
    ]
