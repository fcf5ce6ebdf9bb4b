"""Which tokens of a running stream a step could compute.

Known ones, or one that the step before is still drawing and what is sure to follow it. Does not
know pages, budgets or other streams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .stream import Stream

__all__ = ["due_ids", "num_due"]


def num_due(stream: Stream, step: int, limit: int) -> int:
    """How many they are; the stream may have no more than `limit` tokens."""
    known = stream.target - stream.scheduled
    if not stream.in_flight:
        return known
    if known > 0:
        return 0 if stream.needs_prompt_logprobs else known
    active = stream.generation
    if active is None or stream.future(step) is None:
        return 0
    if active.index + 1 < active.budget:
        return 1
    num_constants = len(stream.constants)
    fits = len(stream.tokens) + 1 + num_constants <= limit
    return 1 + num_constants if num_constants and fits else 0


def due_ids(stream: Stream, step: int, count: int) -> Sequence[int]:
    """The first `count` of these; the one being drawn as the executor is told of it."""
    known = stream.tokens[stream.scheduled : stream.scheduled + count]
    if known:
        return known
    draw = stream.future(step)
    assert draw is not None
    return (-(draw + 1), *stream.constants[: count - 1])
