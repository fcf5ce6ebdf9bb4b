"""What each policy puts first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args, get_type_hints

import pytest
from tests.fakes.waiting import FakeStream, Streams, policy, surroundings

from furcate.runtime.config import ScheduleConfig
from furcate.runtime.scheduler.policies import POLICIES
from furcate.runtime.scheduler.policies.fair_shares import MAX_IDLE, FairShares
from furcate.runtime.scheduler.policies.fcfs import first_come_first_served
from furcate.runtime.scheduler.policies.longest_prefix import WINDOW
from furcate.runtime.scheduler.policies.program import FINISH_TOKENS, QUANTUM_TOKENS
from furcate.runtime.testing import ManualClock

if TYPE_CHECKING:
    from furcate.runtime.scheduler.policies import Policy, Waiting


def order(line: Policy[Waiting], *streams: FakeStream) -> list[int]:
    for stream in streams:
        line.add(stream)
    return [stream.id for stream in line.ordered()]


def admit(line: Policy[Waiting], tokens: int) -> Waiting:
    """The next stream leaves and is served so much at once."""
    stream = next(line.ordered())
    line.remove(stream)
    line.served(stream, tokens)
    return stream


def test_the_option_names_the_policies_that_there_are() -> None:
    assert set(get_args(get_type_hints(ScheduleConfig)["policy"])) == set(POLICIES)
    assert ScheduleConfig().policy == "program"


@pytest.mark.parametrize("name", POLICIES)
def test_an_empty_policy_has_no_order(name: str) -> None:
    line = policy(name)
    assert not line
    assert list(line.ordered()) == []


@pytest.mark.parametrize("name", POLICIES)
def test_who_is_removed_comes_no_more(name: str) -> None:
    make, line = Streams(), policy(name)
    first, second, third = make(), make(), make()
    assert order(line, first, second, third) == [1, 2, 3]
    line.remove(second)
    assert [stream.id for stream in line.ordered()] == [1, 3]
    assert len(line) == 2


def test_first_come_first_served_knows_nothing_but_arrival() -> None:
    make = Streams()
    late = make(arrival=9, path=5, cached=100, deadline=0.5)
    early = make(arrival=2)
    assert order(policy("fcfs"), late, early) == [2, 1]


def test_longest_prefix_looks_at_the_oldest_only() -> None:
    make, line = Streams(), policy("longest-prefix")
    streams = [make() for _ in range(WINDOW + 2)]
    streams[3].cached = 10
    streams[WINDOW].cached = 20  # comes into the window when one has left it
    streams[WINDOW + 1].cached = 30
    ids = order(line, *streams)
    assert ids[:3] == [4, WINDOW + 1, WINDOW + 2]
    assert ids[3:] == [n for n in range(1, WINDOW + 3) if n not in ids[:3]]


def test_longest_prefix_looks_up_no_more_than_the_window_and_who_leaves_it() -> None:
    make, looks = Streams(), 0

    def look(stream: Waiting) -> int:
        nonlocal looks
        looks += 1
        return 0

    line = POLICIES["longest-prefix"](replace(surroundings(), cached_prefix=look))
    for _ in range(1000):
        line.add(make())
    source = line.ordered()
    for _ in range(5):
        next(source)
    assert looks == WINDOW + 4


# The program-aware policy ------------------------------------------------------------------------


def test_the_least_served_program_goes_first() -> None:
    make, line = Streams(), policy("program")
    for program in (1, 1, 2, 2):
        line.add(make(program=program, path=1))
    assert [admit(line, QUANTUM_TOKENS).program for _ in range(4)] == [1, 2, 1, 2]


def test_a_program_that_has_begun_goes_on_until_it_is_a_quantum_ahead() -> None:
    make, line = Streams(), policy("program")
    for program in (1, 1, 1, 2, 2, 2):
        line.add(make(program=program, path=1))
    half = QUANTUM_TOKENS // 2
    assert [admit(line, half).program for _ in range(6)] == [1, 1, 2, 2, 1, 2]


def test_within_a_program_the_longer_path_goes_first_then_who_holds_up_more() -> None:
    make = Streams()
    streams = [
        make(program=1),
        make(program=1, num_waiting=3),
        make(program=1, path=2),
        make(program=1, path=2, num_waiting=1),
        make(program=1),
    ]
    assert order(policy("program"), *streams) == [4, 3, 2, 1, 5]


def test_a_program_at_its_last_node_goes_before_a_new_one_but_not_for_ever() -> None:
    make, line = Streams(), policy("program")
    line.add(make(program=7, path=1))
    other = make(program=8, path=1)
    line.add(other)
    assert admit(line, QUANTUM_TOKENS).program == 7
    last, new = make(program=7), make(program=9)
    assert order(line, last, new)[0] == last.id
    line.served(last, FINISH_TOKENS)
    assert next(line.ordered()) is other


def test_a_new_program_of_one_node_is_not_at_its_last() -> None:
    make = Streams()
    assert order(policy("program"), make(path=1), make()) == [1, 2]


def test_tenants_share_whatever_the_number_of_their_programs() -> None:
    make, line = Streams(), policy("program")
    for _ in range(20):
        line.add(make(namespace="many", path=1))
    for _ in range(4):
        line.add(make(namespace="few", path=1))
    first = [admit(line, 10).namespace for _ in range(8)]
    assert first.count("few") == 4


def test_a_deadline_counts_from_the_last_moment_at_which_it_can_be_met() -> None:
    make, clock = Streams(), ManualClock()
    line = policy("program", surroundings(clock, lambda stream: 3.0))
    patient, urgent = make(), make(deadline=10.0)
    assert order(line, patient, urgent)[:2] == [1, 2]
    clock.advance(7.0)
    assert next(line.ordered()) is urgent
    clock.advance(3.0)  # over: nobody gains from hurrying now
    assert next(line.ordered()) is patient


def test_of_two_urgent_streams_the_one_goes_first_that_had_to_start_first() -> None:
    make, clock = Streams(), ManualClock(100.0)
    needs = {1: 1.0, 2: 50.0}
    line = policy("program", surroundings(clock, lambda stream: needs[stream.id]))
    streams = [make(deadline=100.9), make(deadline=140.0)]
    assert order(line, *streams)[:2] == [2, 1]


def test_the_cached_prefix_decides_among_the_next_few() -> None:
    make, line = Streams(), policy("program")
    streams = [make(path=1) for _ in range(10)]
    streams[2].cached = 5
    streams[8].cached = 50
    assert order(line, *streams)[:2] == [3, 1]


# Virtual time ------------------------------------------------------------------------------------


def shares() -> FairShares[Waiting]:
    return FairShares(
        lambda stream: stream.program, lambda: first_come_first_served(surroundings())
    )


def test_a_newcomer_starts_where_the_least_served_one_is() -> None:
    make, line = Streams(), shares()
    for program in (1, 2):
        for _ in range(50):
            line.add(make(program=program))
    for _ in range(10):
        admit(line, 1000)
    for _ in range(50):
        line.add(make(program=3))
    turns = [admit(line, 1000).program for _ in range(9)]
    assert sorted(turns) == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_nobody_saves_up_what_it_did_not_ask_for() -> None:
    make, line = Streams(), shares()
    line.add(make(program=2))
    admit(line, 10)
    for _ in range(100):
        line.add(make(program=1))
        admit(line, 1000)
    for _ in range(50):
        line.add(make(program=1))
        line.add(make(program=2))
    turns = [admit(line, 1000).program for _ in range(10)]
    assert turns.count(2) in (5, 6)


def test_claimants_that_left_long_ago_are_forgotten() -> None:
    make, line = Streams(), shares()
    for _ in range(MAX_IDLE + 10):
        line.add(make())
        admit(line, 5)
    assert line.attained(1) == 0
    assert line.attained(MAX_IDLE + 10) == 5
    line.served(FakeStream(1, program=1), 5)  # it may still be running
    assert len(line._shares) == MAX_IDLE
