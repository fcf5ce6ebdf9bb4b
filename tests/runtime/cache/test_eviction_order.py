"""Any texts, with anything said about them, leave in the order that a naive model says."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.cache.leases import served
from tests.runtime.cache.naive import NaiveBooks, WatchedOrder

from furcate.runtime.cache import KVCache, NextUse

TEXTS = st.lists(st.integers(0, 3), min_size=1, max_size=9)
TIMES = st.none() | st.integers(0, 4).map(float)
WORDS = st.tuples(st.sampled_from(NextUse), TIMES)
STREAMS = st.lists(st.tuples(TEXTS, st.integers(1, 2), st.none() | WORDS), min_size=2, max_size=14)
REVISIONS = st.lists(st.tuples(st.integers(0, 13), st.none() | WORDS), max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    streams=STREAMS,
    revisions=REVISIONS,
    page_size=st.sampled_from([1, 2, 4]),
    piece=st.integers(1, 5),
)
def test_any_texts_leave_in_the_order_of_what_was_said_about_them(
    streams: list[tuple[list[int], int, tuple[NextUse, float | None] | None]],
    revisions: list[tuple[int, tuple[NextUse, float | None] | None]],
    page_size: int,
    piece: int,
) -> None:
    cache, books = KVCache(200, page_size), NaiveBooks()
    tree = cache.tree
    tree.order = WatchedOrder(tree.order, tree, books)
    for tokens, owner, word in streams:
        lease = served(cache, tokens, owner)
        place = ("", tuple(tokens))
        books.use(place, owner)
        is_dead = word is not None and word[0] is NextUse.DEAD
        if word is not None and not is_dead:
            books.expect(cache.expect(lease, *word), place, *word)
        books.release(place, is_dead)
        cache.release(lease, dead=is_dead)
    for number, revised in revisions:
        if number >= len(books.words):
            continue
        word_here = books.words[number]
        if revised is None or revised[0] is NextUse.DEAD:
            books.forget(word_here, is_dead=revised is not None)
            cache.forget(word_here.expectation, dead=revised is not None)
        else:
            word_here.use, word_here.at = revised
            cache.revise(word_here.expectation, *revised)
        books.check(tree)
    while cache.evict(piece):
        books.trim(tree)
        books.check(tree)
        cache.check()
    assert cache.stats().free_pages == 200
