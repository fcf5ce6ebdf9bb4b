"""What the cache should know of owners and next uses, kept for each prefix by itself and slowly."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from furcate.runtime.cache import NextUse
from furcate.runtime.cache.node import Root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from furcate.runtime.cache import EvictionOrder, Expectation, RadixTree
    from furcate.runtime.cache.node import Node

__all__ = ["NaiveBooks", "Prefix", "WatchedOrder", "prefixes"]

Prefix = tuple[str, tuple[int, ...]]  # a namespace, and tokens in it


@dataclass(eq=False)
class Word:
    """What somebody has said to expect, and of what is left."""

    expectation: Expectation
    place: Prefix
    use: NextUse
    at: float | None


def prefixes(tree: RadixTree) -> dict[Node, list[Prefix]]:
    """Of each node, the prefixes that end in it, the longest last."""
    ends: dict[Node, Prefix] = {}
    found: dict[Node, list[Prefix]] = {}
    for node in tree.nodes():
        if isinstance(node, Root):
            ends[node] = (node.namespace, ())
            continue
        assert node.parent is not None
        namespace, above = ends[node.parent]
        tokens = (*above, *node.tokens)
        ends[node] = (namespace, tokens)
        found[node] = [(namespace, tokens[:n]) for n in range(node.start + 1, node.end + 1)]
    return found


def parts(prefix: Prefix) -> Iterator[Prefix]:
    """All that are not empty, the longest first."""
    namespace, tokens = prefix
    return ((namespace, tokens[:n]) for n in range(len(tokens), 0, -1))


@dataclass
class NaiveBooks:
    users: defaultdict[Prefix, set[int]] = field(default_factory=lambda: defaultdict(set))
    dead: set[Prefix] = field(default_factory=set)
    released: dict[Prefix, int] = field(default_factory=dict)  # by what release it was last
    words: list[Word] = field(default_factory=list)
    num_releases: int = 0

    def use(self, prefix: Prefix, owner: int) -> None:
        """The owner has found the prefix, or has put it there."""
        for each in parts(prefix):
            self.users[each].add(owner)

    def release(self, prefix: Prefix, is_dead: bool) -> None:
        self.num_releases += 1
        for each in parts(prefix):
            self.released[each] = self.num_releases
        self._judge(prefix, is_dead)

    def expect(
        self, expectation: Expectation, place: Prefix, use: NextUse, at: float | None
    ) -> None:
        self.words.append(Word(expectation, place, use, at))

    def forget(self, word: Word, is_dead: bool) -> None:
        self.words.remove(word)
        if is_dead:
            self._judge(word.place, is_dead=True)

    def _judge(self, prefix: Prefix, is_dead: bool) -> None:
        for each in parts(prefix):
            if is_dead and len(self.users[each]) == 1:
                self.dead.add(each)
            else:
                self.dead.discard(each)

    def trim(self, tree: RadixTree) -> None:
        """To be called whenever something may have left the tree, before anything comes back."""
        left = {each for found in prefixes(tree).values() for each in found}
        for gone in self.users.keys() - left:
            del self.users[gone]
            self.released.pop(gone, None)
        self.dead &= left
        for word in self.words:
            nothing: Prefix = (word.place[0], ())
            word.place = next((each for each in parts(word.place) if each in left), nothing)

    def class_of(self, prefix: Prefix) -> tuple[NextUse, float]:
        """Of a leaf that ends here: its class, and how near its next use is."""
        said = [
            (word.use, -math.inf if word.at is None else -word.at)
            for word in self.words
            if word.place == prefix and word.use > NextUse.UNKNOWN
        ]
        return max(said, default=(NextUse(prefix not in self.dead), 0.0))

    def check(self, tree: RadixTree) -> None:
        """Nodes say of all their tokens what is true of each."""
        for node, found in prefixes(tree).items():
            for each in found:
                assert node.owner in self.users[each]
                assert node.is_shared == (len(self.users[each]) > 1), (node, each)
                if not node.locks:
                    assert node.is_dead == (each in self.dead), (node, each)
            here = [] if node.expected is None else list(node.expected)
            real = {word.expectation for word in self.words if word.place == found[-1]}
            assert set(here) == real
            strongest = None if node.expected is None else node.expected.strongest()
            if strongest is not None and strongest.use > NextUse.UNKNOWN:
                nearness = -math.inf if strongest.at is None else -strongest.at
                assert (strongest.use, nearness) == self.class_of(found[-1])
        for word in self.words:
            assert (word.expectation.place is None) == (not word.place[1])

    def check_victim(self, tree: RadixTree, victim: Node) -> None:
        """No other leaf should have gone before."""
        self.trim(tree)
        found = prefixes(tree)
        leaves = [node for node in found if not node.locks and not node.children]
        assert victim in leaves
        use, nearness = self.class_of(found[victim][-1])
        for leaf in leaves:
            other, other_nearness = self.class_of(found[leaf][-1])
            assert use <= other, f"{victim!r} is {use!r} and {leaf!r} only {other!r}"
            if use != other or use is NextUse.PINNED:
                continue
            assert nearness <= other_nearness
            if use <= NextUse.UNKNOWN:
                age = self.released[found[leaf][-1]] - self.released[found[victim][-1]]
                worth = len(leaf.tokens) / len(leaf.pages) - len(victim.tokens) / len(victim.pages)
                assert age >= 0 or worth > 0, f"{leaf!r} is older and no dearer than {victim!r}"


@dataclass
class WatchedOrder:
    """An eviction order whose every choice is compared with the naive one."""

    order: EvictionOrder
    tree: RadixTree
    books: NaiveBooks

    def add(self, node: Node) -> None:
        self.order.add(node)

    def discard(self, node: Node) -> None:
        self.order.discard(node)

    def refresh(self, node: Node) -> None:
        self.order.refresh(node)

    def check(self, unlocked: list[Node]) -> None:
        self.order.check(unlocked)

    def victim(self) -> Node | None:
        victim = self.order.victim()
        if victim is not None:
            self.books.check_victim(self.tree, victim)
        return victim
