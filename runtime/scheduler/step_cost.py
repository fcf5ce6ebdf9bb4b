"""What a step costs, learnt from the steps there were: fixed + a token + a position attended to.

Does not know what the time is spent on, nor what is done with the answer.
"""

from __future__ import annotations

import numpy as np

__all__ = ["StepCost"]

FORGETTING = 0.98  # weight that a step has when the next one is noted: some fifty count
OUTLIER = 2.0  # a step counts as so much longer or shorter than expected at most
LEARNT = 4  # steps before which nothing is expected
# Tokens are counted in hundreds and positions in hundred thousands, so that the three costs are of
# a size, and a little of each is taken for granted: what steps do not tell apart is shared out.
UNITS = np.array([1.0, 1e-2, 1e-5])
RIDGE = 1e-6


class StepCost:
    """Least squares with forgetting over (1, tokens, attended), all costs at least 0: more tokens
    never cost less. A step that was held up by something else, or a change of pace, moves it by
    degrees."""

    def __init__(self) -> None:
        self._products = np.zeros((3, 3))
        self._sums = np.zeros(3)
        self._costs: np.ndarray[tuple[int], np.dtype[np.float64]] | None = None
        self._count = 0

    @property
    def is_learnt(self) -> bool:
        return self._count >= LEARNT

    def note(self, num_tokens: int, attended: int, seconds: float) -> None:
        """A step computed so many tokens, which attended to so many positions in all."""
        if self.is_learnt:
            expected = self.seconds(num_tokens, attended)
            if expected > 0.0:
                seconds = min(max(seconds, expected / OUTLIER), expected * OUTLIER)
        features = UNITS * (1.0, num_tokens, attended)
        self._products = FORGETTING * self._products + np.outer(features, features)
        self._sums = FORGETTING * self._sums + seconds * features
        self._costs = None
        self._count += 1

    def seconds(self, num_tokens: int, attended: int) -> float:
        fixed, token, position = self._solve()
        return float(fixed + token * num_tokens + position * attended)

    def most_tokens(self, seconds: float, num_first: int, attended: int, depth: int) -> float:
        """How many tokens a step of so many seconds may compute: `num_first` that attend to
        `attended` positions in all, and others that attend to `depth` each."""
        _, token, position = self._solve()
        left = seconds - self.seconds(num_first, attended)
        each = float(token + position * depth)
        return num_first + left / each if each > 0.0 else float("inf")

    def _solve(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """The costs; one that would be negative is 0, and the others are found without it."""
        if self._costs is None:
            used = np.ones(3, bool)
            costs = np.zeros(3)
            while used.any():
                part = self._products[np.ix_(used, used)]
                part = part + RIDGE * np.eye(len(part)) * max(1.0, float(np.trace(part)))
                costs[:] = 0.0
                costs[used] = np.linalg.solve(part, self._sums[used])
                if (costs >= 0.0).all():
                    break
                used[int(np.argmin(costs))] = False
            self._costs = costs * UNITS
        return self._costs
