"""An executor around another one, for those who want to see what passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.runtime.engine.batch import ForwardBatch
    from furcate.runtime.engine.executor import Draw, Executor, Score, StepResult

__all__ = ["PassingExecutor"]


class PassingExecutor:
    """Implements Executor by the one inside."""

    def __init__(self, inner: Executor) -> None:
        self.inner = inner
        self.vocab_size, self.max_context = inner.vocab_size, inner.max_context
        self.num_pages, self.page_size = inner.num_pages, inner.page_size
        self.is_asynchronous = inner.is_asynchronous

    def submit(
        self, batch: ForwardBatch, draws: Sequence[Draw] = (), scores: Sequence[Score] = ()
    ) -> int:
        return self.inner.submit(batch, draws, scores)

    def draw(self, seq: int, draws: Sequence[Draw]) -> None:
        self.inner.draw(seq, draws)

    def is_done(self, seq: int) -> bool:
        return self.inner.is_done(seq)

    def collect(self, seq: int) -> StepResult:
        return self.inner.collect(seq)

    def read_page(self, page: int) -> bytes:
        return self.inner.read_page(page)

    def close(self) -> None:
        self.inner.close()
