"""The default eviction against the least recently used, and both against the offline bound."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bench.traces.bound import belady_hits, prompt_tokens, working_set
from tests.bench.traces.compare import contest, report
from tests.bench.traces.generate import generate
from tests.bench.traces.replay import OutOfRoomError, replay
from tests.bench.traces.trace import Next, Segment, Trace, Turn, tokens_of

from furcate.runtime.cache import NextUse


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_knowing_the_next_use_beats_least_recent_use_and_neither_beats_the_bound(seed: int) -> None:
    result = contest(seed, num_programs=120, part=3)
    assert result.lru < result.next_use < result.bound < result.prompt_tokens
    assert result.lru <= result.unhinted <= result.bound
    assert report(result).startswith(f"seed {seed}: ")


def test_a_trace_is_the_same_for_the_same_seed() -> None:
    assert generate(7, 20) == generate(7, 20)
    assert generate(7, 20) != generate(8, 20)


def test_with_room_for_everything_all_that_was_seen_before_is_found() -> None:
    trace = generate(1, 20)
    stats = replay(trace, 20_000, 1, "next-use")
    assert stats.hit_tokens == belady_hits(trace, 20_000)
    assert belady_hits(trace, working_set(trace)) == belady_hits(trace, 10**9)
    assert stats.opened_tokens == prompt_tokens(trace)


def test_a_cache_that_does_not_hold_those_who_run_is_refused() -> None:
    with pytest.raises(OutOfRoomError):
        replay(generate(1, 5), 10, 16, "lru")


@st.composite
def small_traces(draw: st.DrawFn) -> Trace:
    """Turns one after the other on a few segments, each of them used as a prompt of its own."""
    lengths = draw(st.lists(st.integers(1, 2), min_size=2, max_size=3))
    segments = [Segment(number, length) for number, length in enumerate(lengths)]
    picks = draw(st.lists(st.sampled_from(segments), min_size=2, max_size=5))
    turns = [
        Turn(2.0 * n, 2.0 * n + 1, n, n, (pick,), Segment(100 + n, 1), Next(NextUse.DEAD))
        for n, pick in enumerate(picks)
    ]
    return Trace("small", tuple(turns), ())


@settings(max_examples=60, deadline=None)
@given(trace=small_traces(), capacity=st.integers(2, 5))
def test_the_bound_is_the_best_of_all_choices_of_what_to_keep(trace: Trace, capacity: int) -> None:
    used = [turn.prompt[0] for turn in trace.turns]
    gaps = []  # (first turn after which it is kept, turn that finds it), for each token
    for late, segment in enumerate(used):
        earlier = [n for n in range(late) if used[n] == segment]
        if earlier:
            gaps.extend([(earlier[-1], late)] * segment.length)
    best = 0
    for choice in product([False, True], repeat=len(gaps)):
        kept = [gap for gap, keep in zip(gaps, choice, strict=True) if keep]
        fits = all(
            sum(first < now < late for first, late in kept) + used[now].length <= capacity
            for now in range(len(used))
        ) and all(
            sum(first <= now < late for first, late in kept) <= capacity for now in range(len(used))
        )
        best = max(best, len(kept) if fits else 0)
    assert belady_hits(trace, capacity) == best


def test_segments_never_begin_alike() -> None:
    first, second = Segment(1, 4), Segment(2, 4)
    assert tokens_of((first, second)).tolist() == [1001, 2, 3, 4, 1002, 3, 4, 5]
