"""How many tokens the next step may compute.

A constant, or with a target for the time between two tokens of a stream, as many as a step of that
length takes, by the measured cost of steps. Does not know whose tokens they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .step_cost import StepCost

if TYPE_CHECKING:
    from furcate.runtime.clock import Clock

__all__ = ["MIN_CHUNK", "StepBudget"]

MIN_CHUNK = 16  # tokens that a step has left for prompts at least, so that they get on


class StepBudget:
    """`max_tokens` a step; while somebody decodes, no more than take `itl_s` seconds, unless that
    is 0. A step is timed from its launch, or from the end of the one before it if that is later."""

    def __init__(self, max_tokens: int, itl_s: float, clock: Clock) -> None:
        self._max_tokens = max_tokens
        self._itl_s = itl_s
        self._clock = clock
        self._cost = StepCost()
        self._launched: dict[int, tuple[float, int, int]] = {}  # time, tokens, attended
        self._last_end = 0.0

    @property
    def has_target(self) -> bool:
        """Otherwise the answer is always the same, and nobody need say who decodes."""
        return self._itl_s > 0.0

    def tokens(self, num_decoding: int, attended: int = 0, depth: int = 0) -> int:
        """For a step in which so many streams decode, attending to `attended` positions in all;
        other tokens will attend to `depth` each, about."""
        if not num_decoding or not self.has_target or not self._cost.is_learnt:
            return self._max_tokens
        least = num_decoding + MIN_CHUNK
        most = self._cost.most_tokens(self._itl_s, num_decoding, attended, depth)
        return min(self._max_tokens, int(max(least, min(most, self._max_tokens))))

    def launched(self, step: int, num_tokens: int, attended: int) -> None:
        self._launched[step] = (self._clock.now(), num_tokens, attended)

    def collected(self, step: int) -> float:
        """The step has ended well; how many seconds it took."""
        begin, num_tokens, attended = self._launched.pop(step)
        now = self._clock.now()
        seconds = now - max(begin, self._last_end)
        self._last_end = now
        if self.has_target:
            self._cost.note(num_tokens, attended, seconds)
        return seconds

    def failed(self, step: int) -> None:
        """What it took says nothing."""
        self._launched.pop(step, None)
        self._last_end = self._clock.now()
