"""Who may write the last, partly filled page of a lease; copy-on-write where somebody else may.

A page has at most one writer. The stream that fills a page goes on writing it in place, also when
the tree refers to the part that is done. Another stream that continues from a point inside that
page takes the page over if nobody else refers to it, and otherwise gets a copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lease import Copy
from .node import count_references

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .lease import Lease
    from .pool import PagePool
    from .radix import RadixTree

__all__ = ["NO_COPIES", "TailPages"]

NO_COPIES: tuple[Copy, ...] = ()


class TailPages:
    """The part of `KVCache` that makes tail pages writable; writes leases on its behalf."""

    def __init__(self, pool: PagePool, tree: RadixTree, page_size: int) -> None:
        self._pool = pool
        self._tree = tree
        self._page_size = page_size

    def must_copy(self, lease: Lease) -> bool:
        """Would writing the next position in place be seen, or be disturbed, by someone else?"""
        if lease.writes_tail or lease.length % self._page_size == 0:
            return False
        page, pins, is_held = self._own_references(lease)
        return not self._pool.is_writable(page, pins, is_held)

    def reclaim(self, lease: Lease) -> bool:
        """Evict the unlocked nodes that share the tail page; is it writable in place now?"""
        page, pins, is_held = self._own_references(lease)
        if not self._pool.is_reclaimable(page, pins, is_held):
            return False
        self._tree.evict_references(lease.node, lease.length // self._page_size, page)
        return not self.must_copy(lease)

    def claim(self, lease: Lease, copy_to: int | None, step: int) -> Sequence[Copy]:
        """Make the lease the writer of its tail page, or of the copy that `step` makes of it."""
        num_tokens = lease.length % self._page_size
        if lease.writes_tail or num_tokens == 0:
            return NO_COPIES
        index = lease.length // self._page_size
        page, is_held = lease.table[index], index >= lease.held_from
        lease.held_from = min(lease.held_from, index)
        if copy_to is None:
            if not is_held:
                self._pool.hold(page)
            return NO_COPIES
        # A page that is not held belongs to the locked path. It outlives the copy because release
        # marks the path as busy until the lease's last step.
        if is_held:
            self._pool.drop(page, step)
        lease.table[index] = copy_to
        lease.copy_step = step
        return (Copy(page, copy_to, num_tokens),)

    def _own_references(self, lease: Lease) -> tuple[int, int, bool]:
        """The tail page, how many nodes of the lease's path have it, and whether it is held."""
        index = lease.length // self._page_size
        page = lease.table[index]
        count = count_references(lease.node, index, page, self._page_size)
        return page, count, index >= lease.held_from
