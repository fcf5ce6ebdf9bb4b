"""What of a lease is other streams' too: pages that they hold, positions that they compute.

Reads the cache's tree along one path. Does not know streams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from furcate.runtime.cache import Lease

__all__ = ["num_kept", "num_pending", "num_shared", "will_copy"]


def num_kept(lease: Lease) -> int:
    """Positions at its beginning whose KV other leases hold too."""
    node = lease.node
    while node.parent is not None and node.locks < 2:
        node = node.parent
    return node.end


def num_shared(lease: Lease, page_size: int) -> int:
    """Pages at the beginning of its table that other leases hold too."""
    return min(-(-num_kept(lease) // page_size), lease.held_from)


def will_copy(lease: Lease, page_size: int) -> bool:
    """The lease ends inside a page that is not its own to write to, as far as it knows."""
    return lease.length % page_size > 0 and not lease.writes_tail


def num_pending(lease: Lease, completed_step: int) -> int:
    """Positions in the tree that forwards not collected yet compute."""
    node, count = lease.node, 0
    while node.parent is not None:
        count += len(node.tokens) - node.ready_len(completed_step)
        node = node.parent
    return count
