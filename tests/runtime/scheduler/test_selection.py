from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furcate.runtime.scheduler.selection import Place, Trie, build_trie, decide

CHOICES = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=5).map(tuple),
    min_size=1,
    max_size=7,
    unique=True,
)


def path(trie: Trie, place: Place) -> tuple[int, ...]:
    """The tokens from the stream's end to `place`, that one included."""
    if place.segment < 0:
        return ()
    segment = trie.segments[place.segment]
    before: tuple[int, ...] = ()
    if segment.parent >= 0:
        last = len(trie.segments[segment.parent].ids) - 1
        before = path(trie, Place(segment.parent, last))
    return before + segment.ids[: place.offset + 1]


@given(CHOICES)
def test_each_token_is_predicted_where_all_before_it_were_read(
    choices: list[tuple[int, ...]],
) -> None:
    trie = build_trie(choices)
    for ids, places in zip(choices, trie.places, strict=True):
        assert [path(trie, place) for place in places] == [ids[:j] for j in range(len(ids))]


@given(CHOICES)
def test_each_shared_prefix_is_computed_once_and_no_last_token_for_nothing(
    choices: list[tuple[int, ...]],
) -> None:
    needed = {ids[:length] for ids in choices for length in range(1, len(ids))}
    assert build_trie(choices).num_tokens == len(needed)


@given(CHOICES)
def test_the_way_of_each_choice_is_computed_but_perhaps_its_last_token(
    choices: list[tuple[int, ...]],
) -> None:
    trie = build_trie(choices)
    for ids, reached in zip(choices, trie.reached, strict=True):
        computed = path(trie, Place(reached.segment, reached.offset - 1))
        assert computed == ids[: len(computed)]
        assert len(computed) >= len(ids) - 1


def test_the_mean_decides_so_that_a_long_choice_is_not_at_a_disadvantage() -> None:
    result = decide("token_length_normalized", [[-1.0], [-0.8, -0.9, -0.7]], None, 0.0, 0.0)
    assert result.winner == 1
    assert result.normalized == (-1.0, pytest.approx(-0.8))


def test_greedy_selection_keeps_the_rows_at_the_maximum_column_by_column() -> None:
    rows = [[-0.5, -3.0], [-0.5, -0.1, -9.0], [-0.6, 0.0]]
    result = decide("greedy_token_selection", rows, None, 0.0, 0.0)
    assert result.winner == 1
    assert result.greedy_logprob_matrix is not None
    assert result.greedy_logprob_matrix[0] == (-0.5, -3.0, -1.75)


def test_the_unconditional_method_takes_off_what_a_choice_has_without_the_text() -> None:
    result = decide(
        "unconditional_likelihood_normalized", [[-1.0], [-2.0]], [[-0.5], [-4.0]], 0.0, 0.0
    )
    assert result.winner == 1
    assert result.normalized == (-0.5, 2.0)
    assert result.normalized_unconditional == (-0.5, -4.0)


def test_equal_choices_go_to_the_first() -> None:
    assert decide("token_length_normalized", [[-1.0], [-1.0]], None, 0.0, 0.0).winner == 0


@pytest.mark.parametrize(("uniform", "winner"), [(0.0, 0), (0.49, 0), (0.51, 1), (0.9999, 1)])
def test_a_temperature_draws_among_the_choices(uniform: float, winner: int) -> None:
    result = decide("token_length_normalized", [[-1.0], [-1.0]], None, 1.0, uniform)
    assert result.winner == winner


def test_probabilities_sum_to_one_and_the_mass_says_how_likely_any_choice_was() -> None:
    result = decide("token_length_normalized", [[math.log(0.2)], [math.log(0.3)]], None, 0.0, 0.0)
    assert result.probabilities == (pytest.approx(0.4), pytest.approx(0.6))
    assert result.label_mass == pytest.approx(0.5)
