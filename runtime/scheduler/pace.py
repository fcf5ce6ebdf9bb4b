"""How fast streams get on, and so how long one that starts now needs to its end.

A rough estimate, by running means: deadlines need no better. Does not know any deadline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .policies import Waiting

__all__ = ["Pace"]

WEIGHT = 1 / 32  # of the latest observation
FIRST_GENERATION = 128.0  # tokens, before any is known


class Pace:
    """Seconds of a step and tokens of a generation; `budget_tokens` are computed in a step."""

    def __init__(self, budget_tokens: int) -> None:
        self._budget_tokens = budget_tokens
        self._step_s: float | None = None
        self._generation = FIRST_GENERATION

    def stepped(self, seconds: float) -> None:
        before = seconds if self._step_s is None else self._step_s
        self._step_s = before + WEIGHT * (seconds - before)

    def generated(self, num_tokens: int) -> None:
        self._generation += WEIGHT * (num_tokens - self._generation)

    def seconds_needed(self, stream: Waiting) -> float:
        """A step for each token it draws, and as many as its known tokens take."""
        draws = (stream.path + 1) * self._generation
        return (draws + stream.num_uncomputed / self._budget_tokens) * (self._step_s or 0.0)
