"""What every model family here implements, in the words of this layer.

The engine declares the same contract for those who call models (`engine/batch.py`, which explains
each field); models lie below the engine and so name only what they read of a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from furcate.runtime.attention import PagedRows

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = ["LanguageModel", "SlotCopy", "TokenBatch"]


class SlotCopy(Protocol):
    """The first `num_tokens` slots of page `source` go to page `target`."""

    @property
    def source(self) -> int: ...
    @property
    def target(self) -> int: ...
    @property
    def num_tokens(self) -> int: ...


class TokenBatch(PagedRows, Protocol):
    """Rows of tokens of one forward."""

    @property
    def token_ids(self) -> np.ndarray: ...
    @property
    def copies(self) -> tuple[SlotCopy, ...]: ...
    @property
    def logit_indices(self) -> np.ndarray: ...
    @property
    def num_tokens(self) -> int: ...


class LanguageModel(Protocol):
    """A model over a paged KV cache."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def max_context(self) -> int: ...
    @property
    def kv_bytes_per_token(self) -> int: ...

    def allocate(self, num_pages: int, page_size: int) -> None: ...

    def read_page(self, page: int) -> bytes: ...
    def forward(self, batch: TokenBatch) -> Tensor:
        """Logits, float32 [L, vocab_size], of the tokens that `logit_indices` names."""
        ...
