"""Models that run as a program of native operations on a thread of their own.

A family says which operations its forward has (`define`); this module gives it KV pages, an
executor, and the interface of a LanguageModel. Knows no family and no sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from furcate.kernels.forward.native import ForwardBuilder, ForwardExecutor
from furcate.runtime.attention.native import NativePages

if TYPE_CHECKING:
    from collections.abc import Callable

    from furcate.kernels.library import Pool
    from furcate.runtime.attention.native import NativeSpec

    from .base import TokenBatch

__all__ = ["NativeModel", "NativeShape"]

# Of KV pages, taken from the system while the model loads. The first large page of each layer's
# keys and values goes at the first token anyway; prompts then find 8,000 tokens of a small model.
READY_BYTES = 192 << 20


@dataclass(frozen=True, slots=True)
class NativeShape:
    """What the outside sees of a model."""

    vocab_size: int
    max_context: int
    attention: NativeSpec


class NativeModel:
    """Implements LanguageModel. `define` adds the operations of a forward to a builder."""

    def __init__(
        self, shape: NativeShape, pool: Pool, define: Callable[[ForwardBuilder], None]
    ) -> None:
        self.shape = shape
        self.pool = pool
        self._define = define
        self._pages: NativePages | None = None
        self._executor: ForwardExecutor | None = None

    @property
    def vocab_size(self) -> int:
        return self.shape.vocab_size

    @property
    def max_context(self) -> int:
        return self.shape.max_context

    @property
    def kv_bytes_per_token(self) -> int:
        return self.shape.attention.kv_bytes_per_token

    @property
    def executor(self) -> ForwardExecutor:
        assert self._executor is not None, "allocate() comes before the first forward"
        return self._executor

    def allocate(self, num_pages: int, page_size: int) -> None:
        assert self._executor is None, "the KV pages are made once"
        self._pages = NativePages(self.pool.library, self.shape.attention, num_pages, page_size)
        self._pages.touch(self.pool, READY_BYTES)
        builder = ForwardBuilder(
            self.pool, self._pages.shape, self._pages.layers, self.shape.vocab_size
        )
        builder.keep(self._pages)
        self._define(builder)
        self._executor = builder.build()

    def read_page(self, page: int) -> bytes:
        assert self._pages is not None, "allocate() comes before the first forward"
        return self._pages.read_page(page)

    def forward(self, batch: TokenBatch) -> torch.Tensor:
        """Submits a step and waits for it: for those who have no use for an executor."""
        seq = self.executor.submit(batch)
        self.executor.wait(seq)
        return torch.from_numpy(np.array(self.executor.logits(seq)))

    def close(self) -> None:
        """Ends the executor's thread and the pool's. Idempotent."""
        if self._executor is not None:
            self._executor.close()
        self.pool.close()
