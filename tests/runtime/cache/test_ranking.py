"""A ranking against a sorted list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from furcate.runtime.cache.ranking import Ranking

CHANGES = st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 3)), max_size=300)


@given(changes=CHANGES)
def test_the_first_is_the_smallest_and_of_equal_ones_the_first_that_was_set(
    changes: list[tuple[int, int | None]],
) -> None:
    ranking: Ranking[int] = Ranking()
    naive: dict[int, tuple[int, int]] = {}
    for number, (item, key) in enumerate(changes):
        if key is None:
            ranking.discard(item)
            naive.pop(item, None)
        else:
            if naive.get(item, (-1, 0))[0] != key:
                naive[item] = (key, number)
            ranking.set(item, (float(key),))
        assert ranking.first() == min(naive, key=naive.__getitem__, default=None)
        assert set(ranking) == naive.keys()
        assert len(ranking) == len(naive)
        assert ranking.key(item) == (None if key is None else (key,))


def test_outdated_entries_do_not_pile_up() -> None:
    ranking: Ranking[str] = Ranking()
    for number in range(10_000):
        ranking.set("a", (-number,))
        ranking.set("b", (number,))
    assert ranking.first() == "a"
    assert len(ranking._heap) < 100
