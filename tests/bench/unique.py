"""How many tokens there are to compute when nothing is computed twice, and what they attend to."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["count_contexts", "count_unique"]


def count_unique(sequences: Sequence[Sequence[int]]) -> int:
    """The nodes of the trie of these sequences of ids: in sorted order, each adds what it does not
    share with the one before it."""
    return sum(end - begin for begin, end in _added(sequences))


def count_contexts(sequences: Sequence[Sequence[int]]) -> int:
    """The tokens that each node of the trie attends to, itself among them, over all nodes."""
    return sum((end * (end + 1) - begin * (begin + 1)) // 2 for begin, end in _added(sequences))


def _added(sequences: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """What each sequence adds to those before it in order: positions from one to another."""
    ordered = sorted(map(list, sequences))
    shared = [0, *(_shared(left, right) for left, right in pairwise(ordered))]
    return [(begin, len(ids)) for begin, ids in zip(shared, ordered, strict=bool(ordered))]


def _shared(left: Sequence[int], right: Sequence[int]) -> int:
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))
