"""Is what the cache holds what the model would compute? Recomputes a path of the tree and compares.

Every byte of every whole page is compared: same ids, same bits. For tests, and for a look at an
engine that is suspected; nothing may be in flight meanwhile. Changes nothing in the cache but what
an eviction for free pages does.
"""

from __future__ import annotations

from array import array
from itertools import pairwise
from typing import TYPE_CHECKING

from furcate.runtime.cache.lease import Lease
from furcate.runtime.cache.node import path, path_pages

from .plan import StepPlan

if TYPE_CHECKING:
    from furcate.runtime.cache import KVCache
    from furcate.runtime.cache.node import Node
    from furcate.runtime.engine.executor import Executor

__all__ = ["check_kv", "first_wrong_page"]

CHUNK = 256  # tokens recomputed in one forward
NAMESPACE = "canary"  # nobody else's, so that nothing is found in the cache


def check_kv(cache: KVCache, executor: Executor) -> int:
    """Recomputes every leaf; AssertionError where a page differs. The number of leaves compared:
    those that there is no free room for are left out."""
    leaves = [node for node in cache.tree.nodes() if node.parent is not None and not node.children]
    compared = 0
    for leaf in leaves:
        if leaf.removed or cache.pages_for(leaf.end) > cache.pool.num_free:
            continue
        wrong = first_wrong_page(cache, executor, leaf)
        assert wrong is None, f"page index {wrong} of {leaf!r} is not what its tokens give"
        compared += 1
    return compared


def first_wrong_page(cache: KVCache, executor: Executor, node: Node) -> int | None:
    """The index of the first whole page on the path to `node` that holds something else than its
    tokens give; None if there is none."""
    assert cache.completed_step >= max(each.ready_step for each in path(node)), (
        "steps are in flight"
    )
    ids = array("i")
    for each in reversed(list(path(node))):
        ids.extend(each.tokens)
    lease = cache.open(ids, NAMESPACE, limit=0)
    assert isinstance(lease, Lease), "nothing is pending in a namespace that nobody uses"
    try:
        copies = cache.extend(lease, len(ids), cache.completed_step)
        assert copies is not None, "the caller has seen that there is room"
        ends = [*range(0, len(ids), CHUNK), len(ids)]
        for begin, end in pairwise(ends):
            plan = StepPlan(0, CHUNK)
            plan.add_row(ids[begin:end], begin, lease.page_table(), 0)
            executor.collect(executor.submit(plan.batch()))
        num_pages = len(ids) // cache.page_size
        stored = path_pages(node, 0, num_pages, cache.page_size)
        fresh = lease.table.ids(0, num_pages)
        for index, (left, right) in enumerate(zip(stored, fresh, strict=True)):
            if executor.read_page(left) != executor.read_page(right):
                return index
        return None
    finally:
        cache.release(lease)
