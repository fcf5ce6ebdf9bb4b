"""The executor of native models: forwards run on a thread of their own, outside the GIL.

Rows that need no mask are drawn by that thread as soon as the logits are there; masked rows and
scores by the pool's threads when they are collected. Knows no streams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from furcate.kernels.sample.native import SAMPLE_ROW, ScoreResults
from furcate.runtime.sample.native import NativeSampler, PackedDraws

from .executor import Draw, Score, StepResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.runtime.model.native import NativeModel

    from .batch import ForwardBatch

__all__ = ["NativeExecutor"]

NO_SCORES = ScoreResults(
    np.empty(0, np.float32), np.empty((0, 0), np.int32), np.empty((0, 0), np.float32)
)


class NativeExecutor:
    """Implements Executor over a NativeModel. Up to three forwards may be in flight."""

    is_asynchronous = False  # until late draws feed the next forward

    def __init__(self, model: NativeModel, num_pages: int, page_size: int) -> None:
        self.model = model
        self.num_pages = num_pages
        self.page_size = page_size
        model.allocate(num_pages, page_size)
        self._forwards = model.executor
        self._sampler = NativeSampler(model.pool.library, model.pool, model.vocab_size)
        self._packed: dict[int, PackedDraws] = {}  # of `submit`, by sequence number
        self._late: dict[int, PackedDraws] = {}  # of `draw`

    @property
    def vocab_size(self) -> int:
        return self.model.vocab_size

    @property
    def max_context(self) -> int:
        return self.model.max_context

    def submit(
        self, batch: ForwardBatch, draws: Sequence[Draw] = (), scores: Sequence[Score] = ()
    ) -> int:
        packed = self._sampler.pack(draws, scores)
        seq = self._forwards.submit(batch, (packed.address, len(draws)))
        self._packed[seq] = packed
        return seq

    def draw(self, seq: int, draws: Sequence[Draw]) -> None:
        self._late[seq] = self._sampler.pack(draws)

    def is_done(self, seq: int) -> bool:
        return self._forwards.is_done(seq)

    def collect(self, seq: int) -> StepResult:
        self._forwards.wait(seq)
        packed, late = self._packed.pop(seq), self._late.pop(seq, None)
        drawn = self._forwards.drawn(seq, len(packed.rows))
        scored = NO_SCORES
        if len(packed.scores):
            only = PackedDraws(np.empty(0, SAMPLE_ROW), packed.scores, [], [])
            scored = self._sampler.run(self._forwards.logits(seq), only)[1]
        sampled, scores = self._sampler.unpack(packed, drawn, scored)
        if late is not None:
            results = self._sampler.run(self._forwards.logits(seq), late)
            sampled = [*sampled, *self._sampler.unpack(late, *results)[0]]
        return StepResult(sampled, scores)

    def read_page(self, page: int) -> bytes:
        return self.model.read_page(page)

    def close(self) -> None:
        self.model.close()
