"""The tree by itself: comparison, splits, page tables, order of eviction."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furcate.runtime.cache import InvariantError, LruOrder, NextUseOrder, PagePool, RadixTree
from furcate.runtime.cache.node import Node, common_prefix, path_pages

SIZE = 4


def ids(*tokens: int) -> array[int]:
    return array("i", tokens)


def tree_of(num_pages: int = 16) -> tuple[PagePool, RadixTree]:
    pool = PagePool(num_pages)
    return pool, RadixTree(pool, SIZE, NextUseOrder())


def add(pool: PagePool, tree: RadixTree, node: Node, tokens: array[int], first_page: int) -> Node:
    """Put tokens below a node as a stream does that computes them at once and ends.

    `first_page` is the page of the first token where that is inside a page, else ignored. Another
    stream holds on to `node`, so that it does not grow.
    """
    tree.lock(node)
    tree.lock(node)
    num_pages = -(-(node.end + len(tokens)) // SIZE) - node.end // SIZE
    shared = node.end % SIZE != 0
    own = pool.allocate(num_pages - shared) or []
    child = tree.append(node, tokens, [first_page] * shared + own, 0)
    for page in own:
        pool.drop(page, 0)
    tree.unlock(node, 0)
    tree.unlock(child, 0)
    return child


@given(
    left=st.lists(st.integers(0, 1), max_size=12),
    right=st.lists(st.integers(0, 1), max_size=12),
    offset=st.integers(0, 12),
    limit=st.integers(0, 12),
)
def test_common_prefix_is_what_a_loop_finds(
    left: list[int], right: list[int], offset: int, limit: int
) -> None:
    expected = 0
    for ours, theirs in zip(left[:limit], right[offset:], strict=False):
        if ours != theirs:
            break
        expected += 1
    assert common_prefix(array("i", left), array("i", right), offset, limit) == expected


@pytest.mark.parametrize(
    ("cut", "upper_pages", "lower_pages"),
    [(1, [0], [0, 1, 2]), (4, [0], [1, 2]), (6, [0, 1], [1, 2]), (8, [0, 1], [2])],
)
def test_a_split_divides_the_pages_and_shares_the_one_that_is_cut(
    cut: int, upper_pages: list[int], lower_pages: list[int]
) -> None:
    pool, tree = tree_of()
    lower = add(pool, tree, tree.root(""), ids(*range(9)), 0)
    upper = tree.split(lower, cut)
    assert (upper.pages, lower.pages) == (upper_pages, lower_pages)
    assert (upper.tokens, lower.tokens) == (ids(*range(cut)), ids(*range(cut, 9)))
    assert (lower.parent, upper.children) == (upper, {cut: lower})
    assert (tree.num_nodes, tree.num_tokens, pool.num_tree) == (2, 9, 3)


@pytest.mark.parametrize("cut", [0, 9, -1])
def test_a_split_at_an_end_is_refused(cut: int) -> None:
    pool, tree = tree_of()
    node = add(pool, tree, tree.root(""), ids(*range(9)), 0)
    with pytest.raises(InvariantError, match="cannot split"):
        tree.split(node, cut)


def test_in_a_page_table_the_deepest_node_wins() -> None:
    pool, tree = tree_of()
    upper = add(pool, tree, tree.root(""), ids(0, 1, 2, 3, 4), 0)
    [copy] = pool.allocate(1) or []
    lower = add(pool, tree, upper, ids(5, 6, 7, 8), copy)
    assert path_pages(upper, 0, 2, SIZE) == [0, 1]
    assert path_pages(lower, 0, 3, SIZE) == [0, copy, lower.pages[1]]
    assert path_pages(lower, 1, 2, SIZE) == [copy]
    assert path_pages(lower, 2, 2, SIZE) == []


def test_a_match_stops_where_the_tree_stops_and_changes_nothing() -> None:
    pool, tree = tree_of()
    add(pool, tree, tree.root(""), ids(*range(9)), 0)
    for tokens, limit, length in [((0, 1, 5), 3, 2), (range(20), 20, 9), (range(9), 4, 4)]:
        match = tree.match(ids(*tokens), limit, "", 0)
        assert match is not None
        assert match.length == length
    assert tree.match(ids(0), 1, "unknown", 0) is None
    assert tree.num_nodes == 1


@pytest.mark.parametrize("order", [NextUseOrder, LruOrder])
def test_leaves_go_before_their_parents_and_the_oldest_first(
    order: type[NextUseOrder | LruOrder],
) -> None:
    pool = PagePool(16)
    tree = RadixTree(pool, SIZE, order())
    base = add(pool, tree, tree.root(""), ids(0, 1, 2, 3), 0)
    left = add(pool, tree, base, ids(4, 4, 4, 4), 0)
    right = add(pool, tree, base, ids(5, 5, 5, 5), 0)
    tree.lock(left)
    tree.unlock(left, 0)
    for node in (right, left, base):
        assert tree.order.victim() is node
        assert tree.evict(1) == 1
        assert node.removed
    assert tree.order.victim() is None


def test_of_a_long_leaf_only_the_tail_is_evicted() -> None:
    pool, tree = tree_of()
    leaf = add(pool, tree, tree.root(""), ids(*range(15)), 0)
    assert tree.evict(2) == 2
    assert (leaf.tokens, leaf.pages) == (ids(*range(8)), [0, 1])
    assert (tree.num_tokens, tree.evicted_tokens, pool.num_free) == (8, 7, 14)


def test_an_empty_namespace_is_forgotten() -> None:
    pool, tree = tree_of()
    for namespace in ("a", "b"):
        add(pool, tree, tree.root(namespace), ids(1, 2), 0)
    tree.evict(16)
    assert list(tree.nodes()) == []


def test_a_deep_tree_needs_no_recursion() -> None:
    pool, tree = tree_of(500)
    pages = pool.allocate(500) or []
    node: Node = tree.root("")
    tree.lock(node)
    for token in range(2000):
        # Each step is still pending when the next follows, so that no node grows.
        node = tree.append(node, ids(token), [pages[token // SIZE]], token + 1)
    for page in pages:
        pool.drop(page, 0)
    assert tree.num_nodes == 2000
    match = tree.match(ids(*range(2000)), 2000, "", 2000)
    assert match is not None
    assert (match.length, match.pending_step) == (2000, 0)
    assert path_pages(node, 0, 500, SIZE) == pages
    tree.unlock(node, 0)
    assert tree.evict(500) == 500


def test_a_lock_that_does_not_exist_cannot_be_removed() -> None:
    pool, tree = tree_of()
    node = add(pool, tree, tree.root(""), ids(1, 2), 0)
    with pytest.raises(InvariantError, match="has no lock"):
        tree.unlock(node, 0)


def test_a_child_cannot_be_computed_before_its_parent() -> None:
    pool, tree = tree_of()
    root = tree.root("")
    tree.lock(root)
    node = tree.append(root, ids(1, 2, 3, 4), pool.allocate(1) or [], 7)
    with pytest.raises(InvariantError, match="step 6 cannot compute"):
        tree.append(node, ids(5), pool.allocate(1) or [], 6)
