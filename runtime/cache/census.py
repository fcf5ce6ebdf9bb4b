"""What the unlocked part of the cache is kept for: pages and tokens by class of next use.

Counted by going over the whole tree when somebody asks; nothing here keeps the books.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .eviction import own_use
from .expectation import NextUse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .node import Node
    from .pool import PagePool
    from .radix import RadixTree

__all__ = ["Census", "Held", "classes"]


class Held(NamedTuple):
    pages: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Census:
    """A page that several nodes refer to counts once, for the strongest class among them. Pages
    that a lease holds too are with the locked ones."""

    unlocked: Mapping[NextUse, Held]
    locked_tokens: int

    @classmethod
    def take(cls, pool: PagePool, tree: RadixTree) -> Census:
        uses = classes(tree)
        tokens = dict.fromkeys(NextUse, 0)
        pages: dict[int, NextUse] = {}
        locked_tokens = 0
        for node, use in uses.items():
            if node.locks:
                locked_tokens += len(node.tokens)
                continue
            tokens[use] += len(node.tokens)
            for page in node.pages:
                if pool.is_evictable(page):
                    pages[page] = max(use, pages.get(page, use))
        num_pages = dict.fromkeys(NextUse, 0)
        for use in pages.values():
            num_pages[use] += 1
        unlocked = {use: Held(num_pages[use], tokens[use]) for use in NextUse}
        return cls(unlocked, locked_tokens)


def classes(tree: RadixTree) -> dict[Node, NextUse]:
    """The class of each node: the strongest of the expectations at or below it."""
    uses: dict[Node, NextUse] = {}
    below_first = list(tree.nodes())[::-1]
    for node in below_first:
        uses[node] = max([own_use(node), *(uses[child] for child in node.children.values())])
    return uses
