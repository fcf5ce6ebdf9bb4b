"""The grammar cache keeps within its bytes, refusals included."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from furcate.errors import ConstraintError
from furcate.runtime.constrain.cache import GrammarCache


class SizedGrammar:
    def __init__(self, num_bytes):
        self.num_bytes = num_bytes


def test_the_least_recently_used_entry_goes_first():
    cache = GrammarCache(5_000)
    first, second, third = (SizedGrammar(1_500) for _ in range(3))
    cache.put("a", first)
    cache.put("b", second)
    assert cache.get("a") is first
    cache.put("c", third)
    assert cache.get("b") is None
    assert cache.get("a") is first
    assert cache.get("c") is third


def test_what_is_larger_than_the_cache_is_not_kept():
    cache = GrammarCache(5_000)
    cache.put("a", SizedGrammar(100))
    cache.put("b", SizedGrammar(9_000))
    assert cache.get("b") is None
    assert cache.get("a") is not None


def test_refusals_take_room_too():
    cache = GrammarCache(10_000)
    for index in range(5_000):
        cache.put(str(index), ConstraintError("refused " * 20))
        assert cache.num_bytes <= 10_000
    assert 0 < len(cache) < 20


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4_000))))
def test_the_count_of_bytes_is_that_of_the_entries(operations):
    cache = GrammarCache(8_000)
    for key, num_bytes in operations:
        cache.put(str(key), SizedGrammar(num_bytes))
        kept = [cache.get(str(k)) for k in range(10)]
        assert cache.num_bytes == sum(512 + g.num_bytes for g in kept if g is not None)
        assert cache.num_bytes <= 8_000
