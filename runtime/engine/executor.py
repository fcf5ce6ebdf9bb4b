"""Runs forwards and draws from their logits: the only place that starts device work.

A forward is submitted, which may return before it has ended, and later collected. Forwards, and the
draws of each, run in the order in which they were asked for; a forward may read tokens that the
one before it draws, so nobody waits between two of them. Knows no streams.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from furcate.runtime.sample.adjust import is_adjusted
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
    """In the order in which they were asked for: the draws of `submit`, then those of `draw`."""

    sampled: Sequence[Sampled]
    scores: Sequence[Alternatives]


class Executor(Protocol):
    """Runs forwards in the order of their submission.

    In a batch a negative token id -(n + 1) is the token of draw n of the forward submitted just
    before it, where the draws of `submit` are counted first, then those of `draw`.
    """

    @property
    def vocab_size(self) -> int: ...

    @property
    def max_context(self) -> int: ...

    @property
    def is_asynchronous(self) -> bool:
        """Whether forwards run beside the caller, who gains by submitting one ahead."""
        ...

    @property
    def num_pages(self) -> int: ...

    @property
    def page_size(self) -> int: ...

    def submit(
        self, batch: ForwardBatch, draws: Sequence[Draw] = (), scores: Sequence[Score] = ()
    ) -> int:
        """Starts the forward; its sequence number, counted from 1. Draws and scores are made when
        it has ended; what they refer to is read here and now."""
        ...

    def draw(self, seq: int, draws: Sequence[Draw]) -> None:
        """More draws of the forward submitted last, such as those that have to wait for a mask.
        Called at most once for each forward."""
        ...

    def is_done(self, seq: int) -> bool:
        """Whether `collect` would return at once."""
        ...

    def collect(self, seq: int) -> StepResult:
        """Waits for forward `seq` and what was asked of it; called once at most for each, and not
        for earlier ones afterwards. An exception of the forward is raised here or in `submit`."""
        ...

    def read_page(self, page: int) -> bytes:
        """What a KV page holds; for checks, with no forward in flight."""
        ...

    def close(self) -> None:
        """Ends what the executor has started; no call comes afterwards. Idempotent."""
        ...


@dataclass(slots=True)
class _Step:
    draws: list[Draw]
    scores: Sequence[Score]
    logits: torch.Tensor | None = None  # [L, vocab_size]
    sampled: Sequence[Sampled] | None = None


class ModelExecutor:
    """The executor over any Model: computes in the caller's thread. Draws are made as late as they
    may be, when the next forward reads them or when they are collected."""

    is_asynchronous = False

    def __init__(self, model: Model, num_pages: int, page_size: int) -> None:
        self.model = model
        self.num_pages = num_pages
        self.page_size = page_size
        model.allocate(num_pages, page_size)
        self._sampler = Sampler()
        self._seq = 0
        self._steps: dict[int, _Step] = {}  # by sequence number
        self._last = _Step([], ())  # whose draws the next forward may read

    @property
    def vocab_size(self) -> int:
        return self.model.vocab_size

    @property
    def max_context(self) -> int:
        return self.model.max_context

    def submit(
        self, batch: ForwardBatch, draws: Sequence[Draw] = (), scores: Sequence[Score] = ()
    ) -> int:
        step = _Step(list(map(_as_now, draws)), scores)
        batch = self._resolve(batch)
        self._seq += 1
        self._steps[self._seq] = self._last = step
        step.logits = self.model.forward(batch)
        return self._seq

    def draw(self, seq: int, draws: Sequence[Draw]) -> None:
        if seq != self._seq:
            raise ValueError(f"forward {seq!r} is not the last one submitted, {self._seq!r}")
        self._steps[seq].draws.extend(map(_as_now, draws))

    def is_done(self, seq: int) -> bool:
        return True

    def collect(self, seq: int) -> StepResult:
        step = self._steps.pop(seq)
        for abandoned in [earlier for earlier in self._steps if earlier < seq]:
            del self._steps[abandoned]
        logits = step.logits
        assert logits is not None, "a forward that has failed is not collected"
        scored = log_probs(logits, step.scores) if step.scores else ()
        result = StepResult(self._sampled(step), scored)
        step.logits = None
        return result

    def read_page(self, page: int) -> bytes:
        return self.model.read_page(page)

    def close(self) -> None:
        self._steps.clear()

    def _resolve(self, batch: ForwardBatch) -> ForwardBatch:
        """The batch with drawn tokens in the place of negative ids."""
        futures = batch.token_ids < 0
        if not futures.any():
            return batch
        drawn = [each.token_id or 0 for each in self._sampled(self._last)]
        ids = batch.token_ids.copy()
        ids[futures] = np.array(drawn, np.int32)[-ids[futures] - 1]
        return replace(batch, token_ids=ids)

    def _sampled(self, step: _Step) -> Sequence[Sampled]:
        if step.sampled is None:
            rows = [draw.logit for draw in step.draws]
            assert step.logits is not None
            chosen = step.logits
            if rows != list(range(len(chosen))):
                chosen = chosen[rows]
            step.sampled = self._sampler.sample(chosen, [draw.row for draw in step.draws])
        return step.sampled


def _as_now(draw: Draw) -> Draw:
    """With copies of what its caller goes on writing, where that is read."""
    row = draw.row
    if not is_adjusted(row):
        return draw
    output, context = tuple(row.output_ids), tuple(row.context_ids)
    return Draw(draw.logit, replace(row, output_ids=output, context_ids=context))
