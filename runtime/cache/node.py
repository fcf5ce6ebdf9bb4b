"""A node of the radix tree: a run of tokens, and the pages that hold their KV.

A node knows its tokens and its place; it does not know who locks it or how pages are counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator

    from .expectation import Expectations

__all__ = ["Node", "Root", "common_prefix", "count_references", "path", "path_pages"]


@dataclass(slots=True, eq=False)
class Node:
    """Tokens of the positions `start` to `end`, written by the tree alone.

    `pages` are those of every page index that holds one of these positions. The first one may
    begin with positions of the nodes above: it holds copies of their KV too, so that for a page
    index covered by several nodes of a path the deepest node's page is good for all of them.

    The first `settled` tokens were computed before the node last grew; the rest is computed by the
    forward `ready_step`.

    All tokens of a node have one `owner`, whoever inserted them. It `is_shared` once somebody else
    has found them.
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
    owner: int = 0
    is_shared: bool = False
    is_dead: bool = False  # its last user has said so, and it is not shared
    expected: Expectations | None = None  # of uses of the tokens up to its end, never empty
    last_use: int = 0  # when it lost its last lock, and
    floor: float = 0.0  # how far eviction had got then: by the eviction order
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


def path(node: Node) -> Iterator[Node]:
    """The node and all above it, deepest first, the root last."""
    each: Node | None = node
    while each is not None:
        yield each
        each = each.parent


def path_pages(node: Node, first: int, stop: int, page_size: int) -> list[int]:
    """The pages of indices `first` to `stop` on the path to `node`.

    Built from the deepest node backwards: of several nodes that cover an index, its page wins.
    """
    parts: list[list[int]] = []
    for each in path(node):
        if stop <= first:
            break
        begin = each.start // page_size
        if each.pages and begin < stop:
            low = max(begin, first)
            parts.append(each.pages[low - begin : stop - begin])
            stop = low
    return [page for part in reversed(parts) for page in part]


def count_references(node: Node, page_index: int, page: int, page_size: int) -> int:
    """How many nodes on the path to `node` have `page` as their page of this index."""
    count = 0
    for each in path(node):
        if each.end <= page_index * page_size:
            break
        count += each.page_at(page_index, page_size) == page
    return count
