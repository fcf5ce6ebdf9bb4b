"""The queue of waiting streams: its order, its gangs, and how long anybody waits at most."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.waiting import FakeStream, Streams, policy, surroundings

from furcate.runtime.scheduler.policies import POLICIES, Waiting
from furcate.runtime.scheduler.policies.program import QUANTUM_TOKENS
from furcate.runtime.scheduler.waiting import MAX_EMPTY_LEVELS, WaitingQueue
from furcate.runtime.testing import ManualClock

NAMES = sorted(POLICIES)


def queue(name: str = "program", aging_tokens: int = 10**6) -> WaitingQueue[Waiting]:
    return WaitingQueue(lambda: policy(name), aging_tokens)


def ids(line: WaitingQueue[Waiting]) -> list[int]:
    return [stream.id for stream in line.candidates()]


def admit(line: WaitingQueue[Waiting], tokens: int) -> Waiting:
    stream = next(line.candidates())
    line.remove(stream)
    line.served(stream, tokens)
    return stream


@pytest.mark.parametrize("name", NAMES)
def test_a_higher_priority_goes_first_whatever_the_policy(name: str) -> None:
    make, line = Streams(), queue(name)
    for priority in (0, 5, -3, 5):
        line.add(make(priority=priority))
    assert ids(line) == [2, 4, 1, 3]


@pytest.mark.parametrize("name", NAMES)
def test_candidates_change_nothing(name: str) -> None:
    make, line = Streams(), queue(name)
    for n in range(40):
        line.add(make(program=n % 7, path=n % 3, cached=n % 5, namespace="ab"[n % 2]))
    first = ids(line)
    assert sorted(first) == list(range(1, 41))
    assert ids(line) == first
    assert len(line) == 40


def test_siblings_of_a_fork_follow_each_other() -> None:
    make, line = Streams(), queue()
    for n in range(6):
        line.add(make(program=n % 2, gang=("fork", n % 2)))
    taken = []
    for stream in line.candidates():
        line.remove(stream)
        line.served(stream, 2 * QUANTUM_TOKENS)
        taken.append(stream.program)
    assert taken == [0, 0, 0, 1, 1, 1]


def test_a_gang_that_does_not_fit_is_let_in_in_parts_and_shares_the_next_step() -> None:
    make, line = Streams(), queue()
    for _ in range(5):
        line.add(make(program=1, gang="fork", path=1))
    line.add(make(program=2, path=1))
    first = []
    for stream in line.candidates():
        if len(first) == 3:
            break
        line.remove(stream)
        line.served(stream, 2 * QUANTUM_TOKENS)
        first.append(stream.id)
    assert first == [1, 2, 3]
    assert ids(line) == [6, 4, 5]


def test_a_stream_that_was_left_is_passed_over_once() -> None:
    make, line = Streams(), queue()
    for _ in range(3):
        line.add(make(gang="fork"))
    line.add(make())
    seen = []
    for stream in line.candidates():
        seen.append(stream.id)
        if stream.id == 1:
            line.remove(stream)
    assert seen == [1, 2, 3, 4]


def test_what_changed_about_a_stream_moves_it_and_leaves_its_age() -> None:
    make, line = Streams(), queue()
    first, second = make(program=1), make(program=1)
    line.add(first)
    line.add(second)
    second.path = 4
    line.update(second)
    assert ids(line) == [2, 1]
    assert list(line) == [first, second]


def test_levels_of_priorities_that_nobody_uses_any_more_are_dropped() -> None:
    make, line = Streams(), queue()
    for priority in range(100):
        line.add(make(priority=priority))
        admit(line, 1)
    assert len(line._levels) <= MAX_EMPTY_LEVELS + 1


def test_two_tenants_of_unequal_load_get_equal_service() -> None:
    make, line, draw = Streams(), queue(aging_tokens=1000), random.Random(1)
    service = {"loud": 0, "quiet": 0}
    for _ in range(300):
        line.add(make(namespace="loud", program=draw.randrange(100)))
    for _ in range(10):
        line.add(make(namespace="quiet", program=1000 + draw.randrange(3)))
    for _ in range(3000):
        tokens = draw.randrange(1, 200)
        stream = admit(line, tokens)
        service[stream.namespace] += tokens
        line.add(make(namespace=stream.namespace, program=stream.program))
    assert service["loud"] == pytest.approx(service["quiet"], rel=0.01)


class Crowd:
    """Arrivals made to keep one stream out: of any priority, program, path, deadline and gang."""

    def __init__(self, seed: int, clock: ManualClock) -> None:
        self._draw = random.Random(seed)
        self._make = Streams()
        self._clock = clock

    def arrival(self) -> FakeStream:
        draw = self._draw
        return self._make(
            priority=draw.randrange(10),
            program=draw.choice([1, 2, draw.randrange(10_000)]),
            namespace=draw.choice("abc"),
            path=draw.randrange(5),
            num_waiting=draw.randrange(3),
            cached=draw.randrange(100),
            deadline=draw.choice([None, self._clock.now() + draw.random() * 3]),
            gang=draw.choice([None, "fork", draw.randrange(50)]),
        )

    def tokens(self) -> int:
        return self._draw.randrange(1, 60)


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**32), behind=st.integers(0, 8), per_step=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_every_stream_is_chosen_within_a_bounded_number_of_tokens_whatever_arrives(
    name: str, seed: int, behind: int, per_step: int
) -> None:
    aging, clock = 500, ManualClock()
    around = surroundings(clock)
    line = WaitingQueue[Waiting](lambda: policy(name, around), aging)
    crowd = Crowd(seed, clock)
    for _ in range(behind):
        line.add(crowd.arrival())
    victim = FakeStream(0, program=77, priority=-9, arrival=10**9)
    line.add(victim)
    served, largest = 0, 0
    while victim in line:
        assert served <= (behind + 1) * (aging + largest)
        for _ in range(per_step + 1):
            line.add(crowd.arrival())
        step = 0
        for stream, _ in zip(line.candidates(), range(per_step), strict=False):
            line.remove(stream)
            tokens = crowd.tokens()
            line.served(stream, tokens)
            step += tokens
        served, largest = served + step, max(largest, step)
        clock.advance(0.1)


@pytest.mark.parametrize("name", NAMES)
@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_whatever_is_done_the_queue_holds_exactly_those_who_wait(name: str, seed: int) -> None:
    clock = ManualClock()
    around = surroundings(clock)
    line = WaitingQueue[Waiting](lambda: policy(name, around), 300)
    crowd, draw = Crowd(seed, clock), random.Random(seed)
    inside: list[FakeStream] = []
    outside: list[FakeStream] = []
    for _ in range(60):
        match draw.randrange(5):
            case 0 | 1:
                stream = crowd.arrival()
                line.add(stream)
                inside.append(stream)
            case 2 if inside:
                stream = inside.pop(draw.randrange(len(inside)))
                line.remove(stream)
                outside.append(stream)
            case 3 if inside or outside:
                line.served(draw.choice(inside + outside), draw.randrange(100))
                clock.advance(0.2)
            case 4 if inside:
                stream = draw.choice(inside)
                stream.path = draw.randrange(5)
                line.update(stream)
        assert set(line.candidates()) == set(inside)
        assert len(ids(line)) == len(line) == len(inside)
        assert list(line) == inside
