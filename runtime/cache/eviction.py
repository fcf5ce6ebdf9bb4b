"""Which unlocked node is given up first: the policies.

A policy is told which nodes are unlocked and names the next victim, always a leaf: a node never
goes before those below it. It does not know pages, nor what becomes of a victim.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal, Protocol

from .expectation import NextUse
from .invariant import InvariantError
from .ranking import Ranking

if TYPE_CHECKING:
    from .node import Node
    from .ranking import RankKey

__all__ = ["Eviction", "EvictionOrder", "LruOrder", "NextUseOrder", "order_named", "own_use"]

Eviction = Literal["next-use", "lru"]


class EvictionOrder(Protocol):
    """What a policy has to do. A root is never added, and never a victim."""

    def add(self, node: Node) -> None:
        """The node has just lost its last lock; on a path, those below were added before."""

    def discard(self, node: Node) -> None:
        """The node is locked or removed. Idempotent."""

    def refresh(self, node: Node) -> None:
        """What is known of the node has changed; it may be locked."""

    def victim(self) -> Node | None:
        """The unlocked leaf to give up next, in whole or from its end."""

    def check(self, unlocked: list[Node]) -> None:
        """Raise `InvariantError` if the order is not one of these nodes, which are all."""


class LruOrder:
    """Nodes in the order in which they lost their last lock, deepest first on each path.

    A node below is therefore always earlier in that order than the nodes above it, and the first
    node of the order is always a leaf.
    """

    def __init__(self) -> None:
        self._nodes: OrderedDict[Node, None] = OrderedDict()

    def add(self, node: Node) -> None:
        self._nodes[node] = None

    def discard(self, node: Node) -> None:
        self._nodes.pop(node, None)

    def refresh(self, node: Node) -> None:
        pass

    def victim(self) -> Node | None:
        return next(iter(self._nodes), None)

    def check(self, unlocked: list[Node]) -> None:
        if self._nodes.keys() != set(unlocked):
            raise InvariantError("the eviction order is not the set of unlocked nodes")
        place = {node: position for position, node in enumerate(self._nodes)}
        for node in unlocked:
            parent = node.parent
            if parent in place and place[node] > place[parent]:
                raise InvariantError(f"{node!r} would be evicted after its parent {parent!r}")


class NextUseOrder:
    """Weaker classes first. Within a class:

    - DEAD and UNKNOWN by least recent use and cost, as GreedyDual does it: the key is the cost plus
      the key of the last victim at the time of the last use, so that what costs more stays longer,
      but not for ever. The cost is what is lost for a page gained: tokens of the node to compute
      again, per page.
    - IDLE and SCHEDULED by the farthest next use, those without a time first.
    - PINNED by least recent use.

    Only leaves are ranked: the class of a node is the strongest of the expectations at or below it,
    and all those below it have moved up to it when it becomes a leaf.
    """

    def __init__(self) -> None:
        self._leaves: Ranking[Node] = Ranking()
        self._uses = 0
        self._floor = 0.0  # the largest key of a victim so far

    def add(self, node: Node) -> None:
        self._uses += 1
        node.last_use = self._uses
        node.floor = self._floor
        self.refresh(node)

    def discard(self, node: Node) -> None:
        self._leaves.discard(node)

    def refresh(self, node: Node) -> None:
        if node.locks or node.children or node.removed or node.parent is None:
            self._leaves.discard(node)
        else:
            self._leaves.set(node, rank(node))

    def victim(self) -> Node | None:
        node = self._leaves.first()
        if node is not None and own_use(node) <= NextUse.UNKNOWN:
            self._floor = max(self._floor, node.floor + cost(node))
        return node

    def check(self, unlocked: list[Node]) -> None:
        leaves = {node for node in unlocked if not node.children}
        if set(self._leaves) != leaves:
            raise InvariantError("the eviction order is not the set of unlocked leaves")
        for node in leaves:
            if self._leaves.key(node) != rank(node):
                raise InvariantError(
                    f"{node!r} is ranked {self._leaves.key(node)!r}, not {rank(node)!r}"
                )


def order_named(eviction: Eviction) -> EvictionOrder:
    return LruOrder() if eviction == "lru" else NextUseOrder()


def own_use(node: Node) -> NextUse:
    """The class of a node, by what is expected of the tokens up to its end; for a leaf that is all
    there is."""
    strongest = None if node.expected is None else node.expected.strongest()
    if strongest is not None and strongest.use > NextUse.UNKNOWN:
        return strongest.use
    return NextUse.DEAD if node.is_dead else NextUse.UNKNOWN


def cost(node: Node) -> float:
    """Tokens to compute again for each page that the node has, shared ones included."""
    return len(node.tokens) / len(node.pages)


def rank(node: Node) -> RankKey:
    """Where an unlocked leaf belongs: the smallest is given up first."""
    use = own_use(node)
    if use <= NextUse.UNKNOWN:
        return (use, node.floor + cost(node), node.last_use)
    strongest = None if node.expected is None else node.expected.strongest()
    at = None if strongest is None or use is NextUse.PINNED else strongest.at
    return (use, -math.inf if at is None else -at, node.last_use)
