"""Leases as tests take them."""

from __future__ import annotations

from furcate.runtime.cache import KVCache, Lease

__all__ = ["TEXT", "opened", "served"]

TEXT = list(range(100, 164))


def opened(cache: KVCache, tokens: list[int], **kwargs: int) -> Lease:
    lease = cache.open(tokens, **kwargs)
    assert isinstance(lease, Lease)
    return lease


def served(
    cache: KVCache, tokens: list[int], owner: int | None = None, namespace: str = ""
) -> Lease:
    """A lease whose tokens are all computed, in a forward of their own, and in the tree."""
    step = cache.completed_step + 1
    lease = cache.open(tokens, namespace, owner=owner)
    assert isinstance(lease, Lease)
    assert cache.extend(lease, len(tokens), step) is not None
    cache.insert(lease, tokens, len(tokens), step)
    cache.retire(step)
    cache.check()
    return lease
