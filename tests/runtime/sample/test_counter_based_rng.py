"""The random numbers of sampling."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from furcate.runtime.sample.rng import uniform

SEEDS = st.integers(-(2**63), 2**64 - 1)


@settings(deadline=None)
@given(SEEDS, st.integers(0, 2**40))
def test_a_number_depends_on_seed_and_index_alone_and_lies_below_one(seed: int, index: int) -> None:
    assert 0.0 <= uniform(seed, index) < 1.0
    assert uniform(seed, index) == uniform(seed, index) == uniform(seed % 2**64, index)


def test_numbers_do_not_change_between_versions() -> None:
    assert [uniform(0, 0), uniform(0, 1), uniform(1, 0), uniform(-1, 7)] == EXPECTED


def test_neighbouring_seeds_and_indices_are_spread_evenly() -> None:
    for numbers in ([uniform(7, i) for i in range(4096)], [uniform(s, 7) for s in range(4096)]):
        assert len(set(numbers)) == 4096
        counts = [0] * 16
        for number in numbers:
            counts[int(number * 16)] += 1
        chi_square = sum((count - 256) ** 2 / 256 for count in counts)
        assert chi_square < 37.7  # 15 degrees of freedom, one in a thousand


EXPECTED = [0.8833108082136426, 0.43152799704850997, 0.7497482413580301, 0.7741445495399422]
