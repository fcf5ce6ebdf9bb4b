"""Recount everything and compare: the invariants of the cache, readable in one place.

Costs time in proportion to the whole cache; run it after every step in tests and now and then in
production. It changes nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .invariant import InvariantError
from .lease import LeaseState
from .node import Root, path, path_pages

if TYPE_CHECKING:
    from .kv_cache import KVCache
    from .lease import Lease
    from .node import Node

__all__ = ["check_cache"]


def check_cache(cache: KVCache) -> None:
    """Raise `InvariantError` if the books of the cache do not agree."""
    nodes = list(cache.tree.nodes())
    for node in nodes:
        _check_node(node, cache.page_size)
    _check_locks(cache, nodes)
    _check_expectations(nodes)
    _check_order(cache, nodes)
    _check_sizes(cache, nodes)
    for lease in cache.leases.values():
        _check_lease(cache, lease)
    _check_pages(cache, nodes)
    _check_census(cache)


def _check_node(node: Node, page_size: int) -> None:
    """A node touches its parent, has the pages of its positions, and is found by first token."""
    _require(not node.removed, f"{node!r} is removed and still in the tree")
    for first_token, child in node.children.items():
        _require(child.parent is node, f"{child!r} does not know its parent {node!r}")
        _require(child.start == node.end, f"{child!r} does not begin where {node!r} ends")
        _require(len(child.tokens) > 0, f"{child!r} is empty")
        _require(child.tokens[0] == first_token, f"{child!r} is filed under {first_token!r}")
    if node.parent is None:
        _require(isinstance(node, Root) and node.end == 0, f"{node!r} is no root")
        _require(bool(node.children) or node.locks > 0, f"unused {node!r} is kept")
        return
    num_pages = -(-node.end // page_size) - node.start // page_size
    _require(len(node.pages) == num_pages, f"{node!r} needs {num_pages} pages")
    _require(0 <= node.settled <= len(node.tokens), f"{node!r} has settled={node.settled!r}")


def _check_locks(cache: KVCache, nodes: list[Node]) -> None:
    """The locks of a node are the leases at or below it."""
    locks: Counter[int] = Counter()
    for lease in cache.leases.values():
        for node in path(lease.node):
            locks[id(node)] += 1
    known = {id(node) for node in nodes}
    _require(locks.keys() <= known, "a lease is on a path that is not in the tree")
    for node in nodes:
        _require(
            node.locks == locks[id(node)],
            f"{node!r} has {node.locks} locks but {locks[id(node)]} leases at or below it",
        )


def _check_expectations(nodes: list[Node]) -> None:
    """Expectations know their node, and nobody is dead who has been found by others."""
    for node in nodes:
        _require(not (node.is_dead and node.is_shared), f"{node!r} is shared, and called dead")
        parent = node.parent
        shares = parent is None or parent.parent is None or parent.is_shared
        _require(shares or not node.is_shared, f"{node!r} is shared and its parent is not")
        if node.expected is None:
            continue
        _require(node.parent is not None, f"{node!r} is a root, of which nobody expects anything")
        _require(node.expected.node is node, f"{node!r} has the expectations of another node")
        _require(len(node.expected) > 0, f"{node!r} keeps an empty set of expectations")
        for expectation in node.expected:
            _require(expectation.place is node.expected, f"{expectation!r} is not at {node!r}")


def _check_order(cache: KVCache, nodes: list[Node]) -> None:
    unlocked = [node for node in nodes if node.locks == 0 and node.parent is not None]
    cache.tree.order.check(unlocked)


def _check_census(cache: KVCache) -> None:
    """Pages by class add up to the unlocked ones, tokens to those of the tree."""
    census, stats = cache.census(), cache.stats()
    pages = sum(held.pages for held in census.unlocked.values())
    tokens = sum(held.tokens for held in census.unlocked.values()) + census.locked_tokens
    _require(
        (pages, tokens) == (stats.tree_unlocked_pages, stats.tree_tokens),
        f"{census!r} does not add up to {stats!r}",
    )


def _check_sizes(cache: KVCache, nodes: list[Node]) -> None:
    inner = [node for node in nodes if node.parent is not None]
    counted = (cache.tree.num_nodes, cache.tree.num_tokens)
    real = (len(inner), sum(len(node.tokens) for node in inner))
    _require(counted == real, f"(nodes, tokens) are counted as {counted!r}, are {real!r}")


def _check_lease(cache: KVCache, lease: Lease) -> None:
    """`inserted <= length`; pages that a lease does not hold are those of its locked path."""
    _require(lease.state is not LeaseState.RELEASED, f"{lease!r} is still registered")
    if lease.state is LeaseState.LOST:
        return
    _require(lease.inserted <= lease.length, f"{lease!r} has inserted more than it has pages for")
    num_pages = cache.pages_for(lease.length)
    _require(len(lease.table) == num_pages, f"{lease!r} needs {num_pages} pages")
    _require(lease.held_from <= num_pages, f"{lease!r} holds pages beyond its end")
    _require(
        lease.held_from <= cache.pages_for(lease.inserted),
        f"{lease!r} does not hold a page of positions that are not in the tree",
    )
    ours = lease.table.ids(0, lease.held_from)
    real = path_pages(lease.node, 0, lease.held_from, cache.page_size)
    _require(ours == real, f"{lease!r} differs from its path, which has pages {real!r}")


def _check_pages(cache: KVCache, nodes: list[Node]) -> None:
    """Each page is in one class, with the references that nodes and leases really have."""
    tree_refs: Counter[int] = Counter()
    pins: Counter[int] = Counter()
    lease_refs: Counter[int] = Counter()
    for node in nodes:
        tree_refs.update(node.pages)
        if node.locks:
            pins.update(node.pages)
    for lease in cache.leases.values():
        lease_refs.update(lease.table.ids(lease.held_from, len(lease.table)))
    cache.pool.check(tree_refs, pins, lease_refs)
    stats = cache.stats()
    total = (
        stats.free_pages
        + stats.fenced_pages
        + stats.tree_unlocked_pages
        + stats.tree_locked_pages
        + stats.private_pages
    )
    _require(total == stats.total_pages, f"the classes of pages add up to {total}: {stats!r}")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InvariantError(message)
