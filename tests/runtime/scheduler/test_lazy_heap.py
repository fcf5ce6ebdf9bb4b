"""A walk over a lazy heap gives what sorting at every step would give."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from furcate.runtime.scheduler.lazy_heap import LazyHeap

KEYS = st.lists(st.integers(0, 9), min_size=1, max_size=30)


@given(KEYS)
def test_a_walk_is_sorted_and_leaves_everything_in_place(keys: list[int]) -> None:
    heap = LazyHeap[int](lambda item: (keys[item],))
    for item in range(len(keys)):
        heap.push(item)
    expected = sorted(range(len(keys)), key=lambda item: (keys[item], item))
    assert list(heap.walk(lambda item: iter((item,)))) == expected
    assert list(heap.walk(lambda item: iter((item,)))) == expected
    assert len(heap) == len(keys)


@given(KEYS, st.data())
def test_keys_may_grow_and_items_may_go_during_a_walk(keys: list[int], data: st.DataObject) -> None:
    """Each item has three things below it, which go up in rank as they are taken."""
    heap = LazyHeap[int](lambda item: (keys[item],))
    left = dict.fromkeys(range(len(keys)), 3)
    tickets = {item: (item,) for item in left}
    for item in left:
        heap.push(item)
    for found in heap.walk(lambda item: iter([item] * 3)):
        alive = {item for item, count in left.items() if count and item in heap}
        best = min(alive, key=lambda item: (keys[item], tickets[item]))
        assert keys[found] == keys[best]
        left[found] -= 1
        keys[found] += data.draw(st.integers(0, 4))
        other = data.draw(st.integers(0, len(keys) - 1))
        if data.draw(st.booleans()):
            keys[other] += 1
        elif data.draw(st.booleans()):
            heap.discard(other)
    assert not any(count for item, count in left.items() if item in heap)


def test_an_item_whose_key_has_fallen_is_pushed_again_and_comes_once() -> None:
    keys = {"a": 5, "b": 3}
    heap = LazyHeap[str](lambda item: (keys[item],))
    heap.push("a")
    heap.push("b")
    keys["a"] = 1
    heap.push("a")
    assert heap.first() == "a"
    assert list(heap.walk(lambda item: iter((item,)))) == ["a", "b"]


def test_entries_of_items_that_left_do_not_pile_up() -> None:
    heap = LazyHeap[int](lambda item: (item,))
    heap.push(0)
    for _ in range(10_000):
        heap.push(1)
        heap.discard(1)
    assert len(heap._heap) < 20
