"""A match reads as many tokens as it is long, however the tree is cut, and however wide it is."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, SupportsIndex

import pytest
from tests.runtime.cache.leases import opened

from furcate.runtime.cache import KVCache

if TYPE_CHECKING:
    from collections.abc import Iterable

LENGTH = 512


class CountedTokens(array):  # type: ignore[type-arg]
    """Ids that count how many of them are read."""

    num_read = 0

    def __new__(cls, tokens: Iterable[int]) -> CountedTokens:
        return super().__new__(cls, "i", tokens)

    def __getitem__(self, index: SupportsIndex | slice) -> int | array[int]:  # type: ignore[override]
        found = super().__getitem__(index)
        self.num_read += len(found) if isinstance(found, array) else 1
        return found


def put(cache: KVCache, tokens: list[int], owner: int) -> None:
    lease = opened(cache, tokens, owner=owner, limit=len(tokens))
    cache.extend(lease, len(tokens), 0)
    cache.insert(lease, tokens, len(tokens), 0)
    cache.release(lease)


def chain(cache: KVCache, piece: int) -> None:
    """One path that is cut into nodes of this many tokens."""
    for owner, end in enumerate(range(piece, LENGTH + 1, piece)):
        put(cache, list(range(end)), owner)
    assert cache.stats().nodes == LENGTH // piece


@pytest.mark.parametrize("piece", [1, 8, 64, 512])
@pytest.mark.parametrize("matched", [32, 256, 500, 512])
def test_in_a_chain_of_nodes_each_token_is_read_a_few_times(piece: int, matched: int) -> None:
    cache = KVCache(LENGTH, 16)
    chain(cache, piece)
    tokens = CountedTokens([*range(matched), *[5] * (2 * LENGTH)])
    assert cache.cached_prefix(tokens) == matched
    # A node that fits is read once and its first token twice. Of the last one as many tokens may be
    # read as it has, and as many again to find where it differs.
    assert tokens.num_read <= matched + matched // piece + 2 * piece + 2


@pytest.mark.parametrize("num_children", [1, 10, 2000])
def test_how_many_children_a_node_has_makes_no_difference(num_children: int) -> None:
    cache = KVCache(num_children * 2 + 10, 16)
    for child in range(num_children):
        put(cache, [*range(32), 1000 + child, *range(8)], child)
    tokens = CountedTokens([*range(32), 1000 + num_children // 2, *range(8), 7])
    assert cache.cached_prefix(tokens) == 41
    assert tokens.num_read <= 41 + 3


def test_a_match_visits_a_node_for_each_piece_that_it_finds_and_no_other() -> None:
    cache = KVCache(LENGTH, 16)
    chain(cache, 64)
    for number in range(200):
        put(cache, [9000 + number] * 3, number)
    tokens = array("i", [*range(256), 5, 5])
    lease = cache.open(tokens)
    assert cache.stats().hit_tokens == 256 + sum(range(64, LENGTH, 64))
    locked = [node for node in cache.tree.nodes() if node.locks and node.parent is not None]
    assert len(locked) == 256 // 64
    assert lease.cached_len == 256
