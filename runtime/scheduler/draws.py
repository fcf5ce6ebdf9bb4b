"""Which rows of a step draw a token, and how.

A row that needs nothing from the host is drawn as soon as its logits are there; one with a
constraint or a penalty waits until all tokens before it are known. Knows generations and their
matchers, not what becomes of the tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from furcate.runtime.engine.executor import Draw
from furcate.runtime.sample.adjust import reads_outputs
from furcate.runtime.sample.batch import SampleRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from furcate.runtime.constrain.base import Matcher

    from .generation import Generation
    from .masks import MaskFiller
    from .step import Step, StreamRow
    from .stream import Stream

__all__ = ["early_draws", "late_draws"]


def early_draws(step: Step) -> list[Draw]:
    """Draws that may be asked for with the forward; notes them in their rows."""
    draws: list[Draw] = []
    for row in step.rows:
        index = _next_index(row)
        active = row.stream.generation
        if active is None or index is None:
            continue
        if active.matcher is None and not reads_outputs(active.node.sampling):
            row.generation, row.draw = active, len(draws)
            draws.append(_draw(row, active, index, None))
    step.num_draws = len(draws)
    return draws


def late_draws(
    step: Step, masks: MaskFiller, is_over: Callable[[], bool]
) -> tuple[list[Draw], list[Stream]]:
    """The rest, once every step before this one has been committed; notes them in their rows.
    Among them are rows whose stream began another generation meanwhile. `is_over` tells whether the
    forward has ended. The second list are streams whose mask is late: they draw nothing."""
    wanted = list(_without_draw(step))
    _order_masks([active for _, active, _ in wanted], masks, is_over)
    draws: list[Draw] = []
    late: list[Stream] = []
    for row, active, index in wanted:
        if active.mask is not None and not active.mask.is_done:
            active.is_late = True
            late.append(row.stream)
            continue
        row.generation, row.draw = active, step.num_draws + len(draws)
        draws.append(_draw(row, active, index, _take_mask(active, masks.num_words)))
    step.num_draws += len(draws)
    return draws, late


def _without_draw(step: Step) -> Iterator[tuple[StreamRow, Generation, int]]:
    """Rows that want a token, and the ordinal of that."""
    for row in step.rows:
        active = row.stream.generation
        if row.is_void or active is None or row.end != len(row.stream.tokens):
            continue
        index = _next_index(row)
        if index is not None and (row.draw is None or row.generation is not active):
            yield row, active, index


def _order_masks(
    actives: Sequence[Generation], masks: MaskFiller, is_over: Callable[[], bool]
) -> None:
    """Fills those that are needed and not there."""
    ordered: list[Generation] = []
    matchers: list[tuple[Matcher, bool]] = []
    for active in actives:
        if active.matcher is not None and not active.queue and active.mask is None:
            ordered.append(active)
            matchers.append((active.matcher, active.is_slow))
    if ordered:
        for active, ticket in zip(ordered, masks.fill(matchers, is_over), strict=True):
            active.mask = ticket


def _next_index(row: StreamRow) -> int | None:
    """The ordinal, in the active generation, of the token that the row's last logits predict; None
    if it wants none."""
    stream = row.stream
    active = stream.generation
    ahead = row.end - len(stream.tokens)  # 1 behind a token that is being drawn
    if active is None or ahead < 0 or row.num_logits == 0 or stream.awaits_constraint:
        return None
    index = active.index + ahead
    return index if index < active.budget else None


def _draw(row: StreamRow, active: Generation, index: int, mask: np.ndarray | None) -> Draw:
    sampling = active.node.sampling
    return Draw(
        row.logit + row.num_logits - 1,
        SampleRow(
            sampling=sampling,
            seed=active.node.seed,
            index=index,
            output_ids=active.ids,
            context_ids=row.stream.tokens,
            mask=mask,
            banned_ids=active.banned_at(index),
            num_logprobs=sampling.logprobs,
        ),
    )


def _take_mask(active: Generation, num_words: int) -> np.ndarray | None:
    """Bits of the ids that may come next; None where any may."""
    if active.queue:
        mask = np.zeros(num_words, np.int32)
        mask.view(np.uint32)[active.queue[0] // 32] = 1 << (active.queue[0] % 32)
        return mask
    ticket, active.mask = active.mask, None
    if ticket is None:
        return None
    active.is_slow = ticket.was_slow
    return ticket.mask
