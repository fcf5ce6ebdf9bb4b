"""KV cache bookkeeping: page pool, radix tree and leases; no tensors."""

from .census import Census, Held
from .eviction import Eviction, EvictionOrder, LruOrder, NextUseOrder
from .expectation import Expectation, NextUse
from .invariant import InvariantError
from .kv_cache import KVCache
from .lease import Copy, Lease, LeaseState, Pending
from .pool import PagePool
from .radix import Match, RadixTree
from .stats import CacheStats
from .table import PageTable

__all__ = [
    "CacheStats",
    "Census",
    "Copy",
    "Eviction",
    "EvictionOrder",
    "Expectation",
    "Held",
    "InvariantError",
    "KVCache",
    "Lease",
    "LeaseState",
    "LruOrder",
    "Match",
    "NextUse",
    "NextUseOrder",
    "PagePool",
    "PageTable",
    "Pending",
    "RadixTree",
]
