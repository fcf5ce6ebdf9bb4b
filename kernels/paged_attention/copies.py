"""Copies between pages, in order, as few indexed moves.

Copies that do not read or overwrite what an earlier one of the same move wrote can run as one move:
gather all, then scatter all. Knows pages and slots, not why a page is copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from .plan import AttentionShape

__all__ = ["CopyStep", "plan_copies"]


@dataclass(frozen=True, slots=True)
class CopyStep:
    """One move: rows of the pages seen as [P * kv_heads * page_size, head_dim]."""

    sources: Tensor  # int64 [n]
    targets: Tensor  # int64 [n]


def plan_copies(
    shape: AttentionShape, copies: Iterable[tuple[int, int, int]]
) -> tuple[CopyStep, ...]:
    """The moves for `(source page, target page, number of slots)`; their effect is that of doing
    the copies one by one."""
    steps: list[CopyStep] = []
    pending: list[tuple[int, int, int]] = []
    written: set[int] = set()
    for source, target, num_slots in copies:
        if not 0 <= num_slots <= shape.page_size:
            raise ValueError(
                f"a copy moves 0 to {shape.page_size} slots, got {num_slots!r} "
                f"from page {source} to page {target}"
            )
        if source in written or target in written:
            steps.append(_step(shape, pending))
            pending, written = [], set()
        pending.append((source, target, num_slots))
        written.add(target)
    if pending:
        steps.append(_step(shape, pending))
    return tuple(steps)


def _step(shape: AttentionShape, copies: list[tuple[int, int, int]]) -> CopyStep:
    sources = [_rows(shape, source, num_slots) for source, _, num_slots in copies]
    targets = [_rows(shape, target, num_slots) for _, target, num_slots in copies]
    return CopyStep(
        torch.from_numpy(np.concatenate(sources)), torch.from_numpy(np.concatenate(targets))
    )


def _rows(shape: AttentionShape, page: int, num_slots: int) -> np.ndarray:
    heads = page * shape.kv_heads + np.arange(shape.kv_heads, dtype=np.int64)
    return (heads[:, None] * shape.page_size + np.arange(num_slots)).reshape(-1)
