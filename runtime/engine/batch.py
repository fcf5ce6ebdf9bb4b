"""What one forward pass reads: plain arrays, no streams and no requests.

A *row* is a run of consecutive tokens of one sequence: a prompt chunk, one decode token, a branch
of a select trie. All rows of a batch are computed in one forward; the model knows no other
distinction between prefill and decode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["ForwardBatch", "Model", "PageCopy"]


@dataclass(frozen=True, slots=True)
class PageCopy:
    """Copy the first `num_tokens` slots of page `source` to page `target`, in every layer, after
    the layer's own K/V writes and before its attention, in the order given. So a copy may read
    what the same forward has just written."""

    source: int
    target: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class ForwardBatch:
    """R rows with T tokens in all.

    Row r computes tokens `token_ids[row_starts[r]:row_starts[r+1]]` at `positions` of the same
    indices (consecutive), writes their K/V through its page table and attends to its positions
    0..kv_lens[r]-1 causally; kv_lens[r] counts the row's own tokens.
    """

    token_ids: np.ndarray  # int32 [T]
    positions: np.ndarray  # int32 [T]
    row_starts: np.ndarray  # int32 [R + 1]
    kv_lens: np.ndarray  # int32 [R]
    page_table: np.ndarray  # int32 [R, max pages]; unused entries are 0
    copies: tuple[PageCopy, ...]
    logit_indices: np.ndarray  # int32 [L]: which of the T tokens need logits, ascending

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_rows(self) -> int:
        return len(self.kv_lens)


class Model(Protocol):
    """A model over a paged KV cache. `forward` is the only thing that touches KV memory."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def max_context(self) -> int:
        """Positions a sequence may have, prompt and output together."""
        ...

    @property
    def kv_bytes_per_token(self) -> int: ...

    def allocate(self, num_pages: int, page_size: int) -> None:
        """Makes the KV pages; called once, before the first forward."""
        ...

    def read_page(self, page: int) -> bytes:
        """What every layer has in a page. Same ids at the same positions, same bytes."""
        ...

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        """Logits, float32 [L, vocab_size], of the tokens that `logit_indices` names. The result of
        a row depends on that row's own tokens alone, bit for bit: never on who else is in the
        batch, on how the row was cut into chunks or on which pages hold it."""
        ...
