"""Figures about the cache, for metrics and for admission.

They are snapshots: nothing here keeps the books.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .pool import PagePool
    from .radix import RadixTree

__all__ = ["CacheStats", "Counters"]


@dataclass(slots=True)
class Counters:
    """What has happened so far; written by `KVCache`."""

    opens: int = 0
    waits: int = 0
    opened_tokens: int = 0
    hit_tokens: int = 0
    foreign_hit_tokens: int = 0
    inserted_tokens: int = 0
    duplicate_tokens: int = 0
    copies: int = 0


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Pages by class (they add up to `total_pages`), sizes, and counts since the start."""

    total_pages: int
    free_pages: int
    fenced_pages: int
    tree_unlocked_pages: int
    tree_locked_pages: int
    private_pages: int
    leases: int
    nodes: int
    tree_tokens: int
    opens: int  # leases given
    waits: int  # times a prefix was found to be pending
    opened_tokens: int  # tokens that leases were opened with
    hit_tokens: int  # of these, found in the tree
    foreign_hit_tokens: int  # of these, inserted by another owner
    inserted_tokens: int
    duplicate_tokens: int  # computed by one stream and inserted by another before
    evicted_tokens: int
    copies: int  # partial pages copied

    @classmethod
    def collect(
        cls, pool: PagePool, tree: RadixTree, num_leases: int, counters: Counters
    ) -> CacheStats:
        return cls(
            total_pages=pool.total,
            free_pages=pool.num_free,
            fenced_pages=pool.num_fenced,
            tree_unlocked_pages=pool.num_evictable,
            tree_locked_pages=pool.num_tree - pool.num_evictable,
            private_pages=pool.num_private,
            leases=num_leases,
            nodes=tree.num_nodes,
            tree_tokens=tree.num_tokens,
            opens=counters.opens,
            waits=counters.waits,
            opened_tokens=counters.opened_tokens,
            hit_tokens=counters.hit_tokens,
            foreign_hit_tokens=counters.foreign_hit_tokens,
            inserted_tokens=counters.inserted_tokens,
            duplicate_tokens=counters.duplicate_tokens,
            evicted_tokens=tree.evicted_tokens,
            copies=counters.copies,
        )
