"""A stream's hold on the cache: its path in the tree, its pages, its page table.

Leases are written by `KVCache` alone; everybody else reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .node import Node
    from .table import PageTable

__all__ = ["Copy", "Lease", "LeaseState", "Pending"]


class Copy(NamedTuple):
    """The forward copies the first `num_tokens` cells of page `source` to page `target`.

    Executed in every layer after that layer's K/V writes and before its attention, in the order in
    which the copies were returned.
    """

    source: int
    target: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Pending:
    """The prefix is being computed: open again when `step` is complete.

    `cached_len` is the match that can then be expected.
    """

    step: int
    cached_len: int


class LeaseState(Enum):
    LIVE = "live"
    LOST = "lost"  # its prefix was dropped with a failed forward; only release is left
    RELEASED = "released"


@dataclass(slots=True, eq=False)
class Lease:
    """`inserted <= length`, and the page table covers exactly the positions below `length`.

    Table entries from index `held_from` on are counted by this lease; those before are pages of
    the path to `node`, which is locked.
    """

    id: int
    node: Node
    table: PageTable
    cached_len: int  # positions found in the tree when it was opened
    length: int  # positions that have a page
    held_from: int
    owner: int  # whose tokens these are
    writes_tail: bool = False  # the last page is known to be written by no one else
    last_step: int = 0  # latest step that uses the pages, as far as `extend` was told
    copy_step: int = 0  # the last step that copies a tail page for it
    state: LeaseState = LeaseState.LIVE

    @property
    def inserted(self) -> int:
        """Positions that are in the tree."""
        return self.node.end

    def page_table(self) -> NDArray[np.int32]:
        """The page of each page index, without a copy; read at once."""
        return self.table.view()

    def __repr__(self) -> str:
        return (
            f"<Lease {self.id} {self.state.value} inserted={self.inserted} length={self.length} "
            f"pages={self.table.ids(0, len(self.table))!r} held_from={self.held_from}>"
        )
