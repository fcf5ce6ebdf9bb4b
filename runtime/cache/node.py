"""A node of the radix tree: a run of tokens, and the pages that hold their KV.

A node knows its tokens and its place; it does not know who locks it or how pages are counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from array import array

__all__ = ["Node", "Root", "common_prefix"]


@dataclass(slots=True, eq=False)
class Node:
    """Tokens of the positions `start` to `end`, written by the tree alone.

    `pages` are those of every page index that holds one of these positions. The first one may
    begin with positions of the nodes above: it holds copies of their KV too, so that for a page
    index covered by several nodes of a path the deepest node's page is good for all of them.

    The first `settled` tokens were computed before the node last grew; the rest is computed by the
    forward `ready_step`.
    """

    tokens: array[int]
    start: int
    pages: list[int]
    parent: Node | None
    ready_step: int = 0
    settled: int = 0
    busy_until: int = 0  # latest step known to read or write the pages
    locks: int = 0  # leases at or below this node
    removed: bool = False
    children: dict[int, Node] = field(default_factory=dict)  # by first token

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)

    def ready_len(self, step: int) -> int:
        """How many leading tokens are computed once `step` is complete."""
        return len(self.tokens) if self.ready_step <= step else self.settled

    def page_at(self, index: int, page_size: int) -> int:
        return self.pages[index - self.start // page_size]

    def __repr__(self) -> str:
        return (
            f"<Node {self.start}..{self.end} pages={self.pages!r} locks={self.locks} "
            f"children={len(self.children)} ready_step={self.ready_step}>"
        )


@dataclass(slots=True, eq=False, repr=False)
class Root(Node):
    """The empty node at the top of a namespace."""

    namespace: str = ""


def common_prefix(left: array[int], right: array[int], offset: int, limit: int) -> int:
    """Length of the longest common prefix of `left` and `right[offset:]`, at most `limit`."""
    high = min(len(left), len(right) - offset, limit)
    if high <= 0:
        return 0
    if left[:high] == right[offset : offset + high]:
        return high
    # The first difference lies in [low, high); slices are compared in C, and each is at most half
    # as long as the one before.
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        if left[low:middle] == right[offset + low : offset + middle]:
            low = middle
        else:
            high = middle
    return low
