"""The executor of native models: forwards run on a thread of their own, outside the GIL.

Rows that need no mask are drawn by that thread as soon as the logits are there; masked rows and
scores by the pool's threads when they are collected. Knows no streams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from furcate.runtime.sample.sampler import Sampler, log_probs

from .executor import Draw, Score, StepResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.runtime.model.native import NativeModel
    from furcate.runtime.sample.batch import Sampled

    from .batch import ForwardBatch

__all__ = ["NativeExecutor"]


class NativeExecutor:
    """Implements Executor over a NativeModel. Up to three forwards may be in flight."""

    def __init__(self, model: NativeModel, num_pages: int, page_size: int) -> None:
        self.model = model
        self.num_pages = num_pages
        self.page_size = page_size
        model.allocate(num_pages, page_size)
        self._forwards = model.executor
        self._sampler = Sampler()
        self._draws: dict[int, Sequence[Draw]] = {}  # of `submit`, by sequence number

    @property
    def vocab_size(self) -> int:
        return self.model.vocab_size

    @property
    def max_context(self) -> int:
        return self.model.max_context

    def submit(self, batch: ForwardBatch, draws: Sequence[Draw] = ()) -> int:
        seq = self._forwards.submit(batch)
        self._draws[seq] = draws
        return seq

    def collect(self, seq: int, draws: Sequence[Draw], scores: Sequence[Score]) -> StepResult:
        self._forwards.wait(seq)
        draws = (*self._draws.pop(seq), *draws)
        for abandoned in [earlier for earlier in self._draws if earlier < seq]:
            del self._draws[abandoned]
        logits = torch.from_numpy(self._forwards.logits(seq))
        sampled: Sequence[Sampled] = ()
        if draws:
            rows = [draw.logit for draw in draws]
            chosen = logits if rows == list(range(len(logits))) else logits[rows]
            sampled = self._sampler.sample(chosen, [draw.row for draw in draws])
        return StepResult(sampled, log_probs(logits, scores) if scores else ())

    def close(self) -> None:
        self.model.close()
