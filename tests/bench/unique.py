"""How many tokens there are to compute when nothing is computed twice."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["count_unique"]


def count_unique(sequences: Sequence[Sequence[int]]) -> int:
    """The nodes of the trie of these sequences of ids: in sorted order, each adds what it does not
    share with the one before it."""
    ordered = sorted(map(list, sequences))
    shared = sum(_shared(left, right) for left, right in pairwise(ordered))
    return sum(map(len, ordered)) - shared


def _shared(left: Sequence[int], right: Sequence[int]) -> int:
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))
