"""A trial run of a compiled grammar, so that one which is cheap to compile and ruinous to decode is
refused before any stream meets it.

Two walks from the start: one repeats a token as long as it may (nested repetitions blow up within a
few hundred steps), one chooses at random. Knows nothing of the engines.
"""

from __future__ import annotations

import random
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from furcate.errors import ConstraintError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .base import Grammar, Matcher

__all__ = ["ProofLimits", "prove"]


@dataclass(frozen=True, slots=True)
class ProofLimits:
    """CPU time of the proving thread, so that a busy machine refuses nothing more.

    The first steps fill an engine's caches and are not counted.
    """

    num_tokens: int = 256
    mean_step_s: float = 0.005
    mean_over_steps: int = 32
    slow_step_s: float = 0.050
    max_slow_steps: int = 1
    total_s: float = 1.0
    num_warm_up_steps: int = 4


def prove(
    grammar: Grammar,
    vocab_size: int,
    limits: ProofLimits,
    cpu_clock: Callable[[], float] = time.thread_time,
) -> None:
    """Walks the grammar; raises ConstraintError if it allows nothing or takes too long."""
    mask = np.zeros((vocab_size + 31) // 32, np.int32)
    start = grammar.matcher(())
    if not start.fill_mask(mask) and not start.is_accepting:
        raise ConstraintError(
            "the constraint allows no text at all: "
            f"{start.failure or 'no token can begin it'}; correct it"
        )
    rng = random.Random(0)
    walk = _Walk(mask, limits, cpu_clock, rng)
    walk.run(start.fork(), repeated=walk.repeatable(start))
    walk.run(start, repeated=None)


class _Walk:
    def __init__(
        self,
        mask: np.ndarray,
        limits: ProofLimits,
        cpu_clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._mask = mask
        self._limits = limits
        self._cpu_clock = cpu_clock
        self._rng = rng
        self._num_slow = 0
        self._total_s = 0.0

    def repeatable(self, matcher: Matcher) -> int | None:
        """A token that may follow itself at the start, if a few tries find one."""
        matcher.fill_mask(self._mask)
        allowed = self._allowed()
        for index in self._rng.sample(range(len(allowed)), min(16, len(allowed))):
            token_id = int(allowed[index])
            probe = matcher.fork()
            if probe.accept(token_id) and probe.accept(token_id):
                return token_id
        return None

    def run(self, matcher: Matcher, repeated: int | None) -> None:
        """Up to `num_tokens` steps; `repeated` is taken wherever it is allowed."""
        recent: deque[float] = deque(maxlen=self._limits.mean_over_steps)
        for step in range(self._limits.num_tokens // (1 if repeated is not None else 2)):
            before_s = self._cpu_clock()
            is_alive = matcher.fill_mask(self._mask)
            if is_alive:
                self._accept_next(matcher, repeated)
            elapsed_s = self._cpu_clock() - before_s
            self._total_s += elapsed_s
            if matcher.failure is not None:
                raise _too_complex(matcher.failure)
            if not is_alive or self._total_s > self._limits.total_s:
                break
            if step >= self._limits.num_warm_up_steps:
                recent.append(elapsed_s)
                self._judge(recent, elapsed_s)

    def _accept_next(self, matcher: Matcher, repeated: int | None) -> None:
        if repeated is None or not matcher.accept(repeated):
            allowed = self._allowed()
            matcher.accept(int(allowed[self._rng.randrange(len(allowed))]))

    def _allowed(self) -> np.ndarray:
        """The ids of the mask's bits."""
        return np.flatnonzero(np.unpackbits(self._mask.view(np.uint8), bitorder="little"))

    def _judge(self, recent: deque[float], elapsed_s: float) -> None:
        self._num_slow += elapsed_s > self._limits.slow_step_s
        if self._num_slow > self._limits.max_slow_steps:
            raise _too_complex(f"a step took {elapsed_s * 1000:.0f} ms")
        mean_s = sum(recent) / len(recent)
        if len(recent) == recent.maxlen and mean_s > self._limits.mean_step_s:
            raise _too_complex(f"steps take {mean_s * 1000:.1f} ms on average")


def _too_complex(reason: str) -> ConstraintError:
    return ConstraintError(f"the constraint is too complex to generate with: {reason}; simplify it")
