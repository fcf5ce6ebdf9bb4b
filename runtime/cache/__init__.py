"""KV cache bookkeeping: page pool, radix tree and leases; no tensors."""

from .invariant import InvariantError
from .kv_cache import KVCache
from .lease import Copy, Lease, LeaseState, Pending
from .pool import PagePool
from .radix import Match, RadixTree
from .stats import CacheStats
from .table import PageTable

__all__ = [
    "CacheStats",
    "Copy",
    "InvariantError",
    "KVCache",
    "Lease",
    "LeaseState",
    "Match",
    "PagePool",
    "PageTable",
    "Pending",
    "RadixTree",
]
