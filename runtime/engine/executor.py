"""Runs forwards and draws from their logits: the only place that starts device work.

A step is `submit`, which may return before the forward has ended, and `collect`, which waits. Rows
that need nothing more from the host are drawn as soon as their logits are there; for the others it
is told with `collect`, so that masks are made while the forward runs. Knows no streams.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from furcate.runtime.sample.sampler import Sampler, log_probs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from furcate.runtime.sample.batch import Alternatives, Sampled, SampleRow

    from .batch import ForwardBatch, Model

__all__ = ["Draw", "Executor", "ModelExecutor", "Score", "StepResult"]


class Draw(NamedTuple):
    """Sample a token from row `logit` of the step's logits."""

    logit: int
    row: SampleRow


class Score(NamedTuple):
    """The log-probability of `token_id` in row `logit`, and the `num_top` likeliest there."""

    logit: int
    token_id: int
    num_top: int = 0


@dataclass(frozen=True, slots=True)
class StepResult:
    """In the order in which they were asked for: first the draws of `submit`, then of `collect`."""

    sampled: Sequence[Sampled]
    scores: Sequence[Alternatives]


class _Step(NamedTuple):
    logits: torch.Tensor  # [L, vocab_size]
    draws: Sequence[Draw]  # known at its submission


class Executor(Protocol):
    """Forwards run in the order of their submission."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def max_context(self) -> int: ...

    @property
    def num_pages(self) -> int: ...

    @property
    def page_size(self) -> int: ...

    def submit(self, batch: ForwardBatch, draws: Sequence[Draw] = ()) -> int:
        """Starts the forward; its sequence number, counted from 1. The draws are made when it has
        ended; what their rows refer to is left alone until then."""
        ...

    def collect(self, seq: int, draws: Sequence[Draw], scores: Sequence[Score]) -> StepResult:
        """Waits for forward `seq` and makes the rest of its draws; called once at most for each,
        and not for earlier ones afterwards. An exception of the forward is raised here or in
        `submit`."""
        ...

    def close(self) -> None:
        """Ends what the executor has started; no call comes afterwards. Idempotent."""
        ...


class ModelExecutor:
    """The executor over any Model: computes in `submit`, in the caller's thread, and draws in
    `collect`."""

    def __init__(self, model: Model, num_pages: int, page_size: int) -> None:
        self.model = model
        self.num_pages = num_pages
        self.page_size = page_size
        model.allocate(num_pages, page_size)
        self._sampler = Sampler()
        self._seq = 0
        self._steps: dict[int, _Step] = {}  # by sequence number

    @property
    def vocab_size(self) -> int:
        return self.model.vocab_size

    @property
    def max_context(self) -> int:
        return self.model.max_context

    def submit(self, batch: ForwardBatch, draws: Sequence[Draw] = ()) -> int:
        self._seq += 1
        self._steps[self._seq] = _Step(self.model.forward(batch), draws)
        return self._seq

    def collect(self, seq: int, draws: Sequence[Draw], scores: Sequence[Score]) -> StepResult:
        step = self._steps.pop(seq)
        for abandoned in [earlier for earlier in self._steps if earlier < seq]:
            del self._steps[abandoned]
        logits, draws = step.logits, (*step.draws, *draws)
        sampled: Sequence[Sampled] = ()
        if draws:
            rows = [draw.logit for draw in draws]
            chosen = logits if rows == list(range(len(logits))) else logits[rows]
            sampled = self._sampler.sample(chosen, [draw.row for draw in draws])
        return StepResult(sampled, log_probs(logits, scores) if scores else ())

    def close(self) -> None:
        self._steps.clear()
