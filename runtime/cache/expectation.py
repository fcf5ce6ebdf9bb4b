"""What is known about the next use of cached tokens.

An expectation says that somebody will use the tokens up to a place in the tree, why, and about
when. Those of one node are kept together; where the node is evicted, they move up together to what
is left of the path. Who expects something, and what its times mean, is not known here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from .ranking import Ranking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .node import Node

__all__ = ["Expectation", "Expectations", "NextUse", "hand_up"]


class NextUse(IntEnum):
    """How sure the next use is. What is weaker is evicted first."""

    DEAD = 0  # its last user has said that nobody comes back, and no stranger ever came
    UNKNOWN = 1  # nobody has said anything
    IDLE = 2  # its stream waits for something outside: a user, a tool
    SCHEDULED = 3  # work that is known already will use it
    PINNED = 4  # somebody has asked to keep it: goes when nothing else is left


@dataclass(eq=False, slots=True)
class Expectation:
    """One user's word about a place in the tree. Written by the cache alone.

    `at` says when, by the caller's measure: smaller is sooner, None is not known and counts as
    later than anything. `place` is None once it is forgotten, or once nothing is left of the path.
    """

    use: NextUse
    at: float | None
    place: Expectations | None = None


class Expectations:
    """Those of one node, the strongest of them first, of equally strong ones the soonest."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._ranking: Ranking[Expectation] = Ranking()

    def __len__(self) -> int:
        return len(self._ranking)

    def __iter__(self) -> Iterator[Expectation]:
        return iter(self._ranking)

    def put(self, expectation: Expectation) -> None:
        """Add one, or find its new rank after a change."""
        expectation.place = self
        at = math.inf if expectation.at is None else expectation.at
        self._ranking.set(expectation, (-expectation.use, at))

    def remove(self, expectation: Expectation) -> None:
        expectation.place = None
        self._ranking.discard(expectation)

    def strongest(self) -> Expectation | None:
        return self._ranking.first()


def hand_up(node: Node) -> None:
    """Move the expectations of a node to its parent, or drop them if that is a root.

    The smaller set is put into the larger one, so that each of n expectations is moved O(log n)
    times at most, however long the path is.
    """
    mine, parent = node.expected, node.parent
    node.expected = None
    if mine is None or parent is None:
        return
    if parent.parent is None:
        for expectation in list(mine):
            mine.remove(expectation)
        return
    theirs = parent.expected
    if theirs is not None:
        if len(theirs) > len(mine):
            mine, theirs = theirs, mine
        for expectation in list(theirs):
            mine.put(expectation)
    mine.node = parent
    parent.expected = mine
