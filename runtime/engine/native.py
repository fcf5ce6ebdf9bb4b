"""The executor of native models: forwards run on a thread of their own, outside the GIL.

That thread also makes all draws and scores, so that a forward which reads tokens of the one before
it waits for nobody. Knows no streams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.kernels.forward.native import KEPT_STEPS
from furcate.runtime.sample.native import NativeSampler

from .executor import Draw, Score, StepResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.runtime.model.native import NativeModel
    from furcate.runtime.sample.native import PackedDraws

    from .batch import ForwardBatch

__all__ = ["NativeExecutor"]


class NativeExecutor:
    """Implements Executor over a NativeModel. Up to three forwards may be in flight."""

    is_asynchronous = True

    def __init__(self, model: NativeModel, num_pages: int, page_size: int) -> None:
        self.model = model
        self.num_pages = num_pages
        self.page_size = page_size
        model.allocate(num_pages, page_size)
        self._forwards = model.executor
        self._sampler = NativeSampler(model.pool.library, model.pool, model.vocab_size)
        # By number: of `submit`, and of `draw` where it was called.
        self._asked: dict[int, PackedDraws] = {}
        self._late: dict[int, PackedDraws] = {}

    @property
    def vocab_size(self) -> int:
        return self.model.vocab_size

    @property
    def max_context(self) -> int:
        return self.model.max_context

    def submit(
        self, batch: ForwardBatch, draws: Sequence[Draw] = (), scores: Sequence[Score] = ()
    ) -> int:
        asked = self._sampler.pack(draws, scores)
        seq = self._forwards.submit(batch, asked.rows, asked.scores, asked.pointees)
        self._asked[seq] = asked
        self._forget(seq - KEPT_STEPS)
        return seq

    def draw(self, seq: int, draws: Sequence[Draw]) -> None:
        late = self._sampler.pack(draws)
        self._forwards.draw(seq, late.rows, late.pointees)
        self._late[seq] = late

    def is_done(self, seq: int) -> bool:
        return self._forwards.is_done(seq)

    def collect(self, seq: int) -> StepResult:
        asked, late = self._asked[seq], self._late.get(seq)
        self._forget(seq)
        self._forwards.wait(seq)
        sampled = self._sampler.unpack_draws(asked, self._forwards.drawn(seq))
        if late is not None:
            sampled += self._sampler.unpack_draws(late, self._forwards.drawn_late(seq))
        if not len(asked.scores):
            return StepResult(sampled, ())
        scores = self._sampler.unpack_scores(asked, self._forwards.scored(seq))
        return StepResult(sampled, scores)

    def read_page(self, page: int) -> bytes:
        return self.model.read_page(page)

    def close(self) -> None:
        self.model.close()

    def _forget(self, last: int) -> None:
        """Of forwards up to `last`: collected ones, and those that nobody collects."""
        for asked in (self._asked, self._late):
            for seq in [each for each in asked if each <= last]:
                del asked[seq]
