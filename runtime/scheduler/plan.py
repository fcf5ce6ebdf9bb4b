"""The rows of one step, gathered as streams are scheduled and turned into arrays once.

Knows token runs, page tables and logits; does not know why a row is in the step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from furcate.runtime.engine.batch import ForwardBatch, PageCopy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from furcate.runtime.cache.lease import Copy

__all__ = ["StepPlan"]


@dataclass(slots=True)
class StepPlan:
    """A step under construction. `step` is its number, `budget_tokens` what it may still take."""

    step: int
    budget_tokens: int
    num_logits: int = 0
    _ids: list[Sequence[int]] = field(default_factory=list)
    _begins: list[int] = field(default_factory=list)
    _tables: list[NDArray[np.int32]] = field(default_factory=list)
    _copies: list[PageCopy] = field(default_factory=list)
    _logit_indices: list[int] = field(default_factory=list)
    _num_tokens: int = 0

    @property
    def num_rows(self) -> int:
        return len(self._ids)

    @property
    def num_tokens(self) -> int:
        return self._num_tokens

    @property
    def num_attended(self) -> int:
        """Positions that its tokens attend to, in all; those that a row itself adds once each."""
        rows = zip(self._begins, self._ids, strict=True)
        return sum(len(ids) * (begin + len(ids)) for begin, ids in rows)

    def add_row(
        self, ids: Sequence[int], begin: int, table: NDArray[np.int32], num_logits: int
    ) -> int:
        """Adds a row that computes `ids` from position `begin` on, with logits for its last
        `num_logits` tokens; the index of the first of these among the step's logits.

        The table is copied: later changes of the lease do not reach the row.
        """
        first = self.num_logits
        self._ids.append(ids)
        self._begins.append(begin)
        self._tables.append(table.copy())
        self._num_tokens += len(ids)
        self._logit_indices.extend(range(self._num_tokens - num_logits, self._num_tokens))
        self.num_logits += num_logits
        self.budget_tokens -= len(ids)
        return first

    def add_copies(self, copies: Iterable[Copy]) -> None:
        for copy in copies:
            self._copies.append(PageCopy(copy.source, copy.target, copy.num_tokens))

    def batch(self) -> ForwardBatch:
        lengths = np.fromiter(map(len, self._ids), np.int32, len(self._ids))
        begins = np.array(self._begins, np.int32)
        row_starts = np.zeros(len(lengths) + 1, np.int32)
        np.cumsum(lengths, out=row_starts[1:])
        offsets = np.repeat(begins - row_starts[:-1], lengths)
        table = np.zeros((len(lengths), max(map(len, self._tables))), np.int32)
        for row, pages in zip(table, self._tables, strict=True):
            row[: len(pages)] = pages
        return ForwardBatch(
            token_ids=np.concatenate([np.asarray(ids, np.int32) for ids in self._ids]),
            positions=np.arange(self._num_tokens, dtype=np.int32) + offsets,
            row_starts=row_starts,
            kv_lens=begins + lengths,
            page_table=table,
            copies=tuple(self._copies),
            logit_indices=np.array(self._logit_indices, np.int32),
        )
