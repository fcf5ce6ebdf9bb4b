"""What one client may have running, and what happens to one that does not read."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.fakes.front_driver import Driver

from furcate.protocol.codec import decode_events
from furcate.protocol.envelope import Ack, Open, decode_header, encode_header
from furcate.protocol.graph import Gen, Root, Text, TextOf
from furcate.protocol.message import (
    PROGRAM_BYTES,
    Cancel,
    Delta,
    Event,
    Finished,
    Graph,
    Options,
    Release,
    Segments,
    Value,
    Welcome,
)
from furcate.protocol.sampling import Sampling
from furcate.runtime.graph import Limits
from furcate.runtime.graph.quota import Quota
from furcate.runtime.transport.client import Client
from furcate.runtime.transport.held import Held


def asks(text: str = "hello ") -> tuple[Root | Text | Gen, ...]:
    return (Root(0), Text(0, text), Gen(0, 0, 0, Sampling(max_tokens=4)))


def test_the_client_learns_what_it_may_have_running() -> None:
    driver = Driver(limits=Limits(open_programs=3, open_bytes=9_000))
    (welcome,) = driver.of(Welcome)
    assert (welcome.max_programs, welcome.max_program_bytes) == (3, 9_000)


def test_only_the_program_that_is_too_many_is_refused_and_may_be_sent_again() -> None:
    driver = Driver(limits=Limits(open_programs=2))
    for number in range(5):
        driver.program(*asks(), program=number)
    assert driver.finished(program=4).code == "overloaded"
    assert "2 times --max-programs" in driver.finished(program=4).message
    driver.run()
    assert [driver.finished(program=number).code for number in range(4)] == [None] * 4
    driver.events.clear()
    driver.program(*asks(), program=4)
    driver.run()
    assert driver.finished(program=4).code is None


def test_another_client_has_room_of_its_own() -> None:
    driver = Driver(limits=Limits(open_programs=1))
    driver.connect("b")
    driver.program(*asks())
    driver.program(*asks(), client="b")
    driver.run()
    assert driver.finished("b").code is None


def test_programs_over_the_bytes_are_refused_and_segments_count_for_nobody() -> None:
    driver = Driver(limits=Limits(open_bytes=PROGRAM_BYTES + 50))
    driver.send(Segments(0, ("x" * 3_000,)))
    driver.program(Root(0), Text(0, 0), Gen(0, 0, 0, Sampling(max_tokens=4)))
    driver.program(*asks("y" * 100), program=1)
    driver.program(*asks(), program=2)
    assert driver.finished(program=2).code == "overloaded"
    assert "--max-program-bytes" in driver.finished(program=2).message
    driver.run()
    assert [driver.finished(program=number).code for number in range(2)] == [None, None]


def test_a_program_that_is_larger_than_the_limit_may_run_alone() -> None:
    driver = Driver(limits=Limits(open_bytes=2_000))
    driver.program(*asks("x" * 3_000))
    driver.run()
    assert driver.finished().code is None


def test_a_program_that_grows_beyond_twice_the_limit_fails_alone() -> None:
    driver = Driver(limits=Limits(open_bytes=4 * PROGRAM_BYTES))
    driver.program(*asks(), program=0)
    driver.program(*asks(), program=1, done=False)
    driver.program(Text(0, "x" * 10_000), program=1, epoch=1)
    driver.run()
    assert driver.finished(program=0).code is None
    assert driver.finished(program=1).code == "overloaded"


def test_of_programs_that_are_never_released_the_latest_are_kept() -> None:
    driver = Driver(limits=Limits(finished_programs=2))
    driver.program(Root(0), Text(0, "hi"), program=0)
    driver.program(*asks(), program=1, done=False)
    for number in range(2, 6):
        driver.program(Root(0), Text(0, "hi"), program=number)
        driver.run()
    for number in (0, 2, 4, 5):
        driver.program(TextOf(0, 9), program=number, epoch=1)
    assert [driver.values(program=number).get(9) for number in (4, 5)] == ["hi", "hi"]
    for number in (0, 2):
        forgotten = driver.of(Finished, program=number)[-1]
        assert forgotten.code == "usage"
        assert "or forgotten: 2 are kept" in forgotten.message
    driver.program(program=1, epoch=1)
    driver.run()
    assert driver.finished(program=1).code is None


@pytest.mark.parametrize("end", [Release((0,)), Cancel(0)])
def test_what_is_released_or_cancelled_makes_room(end) -> None:
    driver = Driver(limits=Limits(open_programs=1))
    driver.program(*asks())
    driver.send(end)
    driver.run()
    driver.program(*asks(), program=1)
    driver.run()
    assert driver.finished(program=1).code is None


def test_a_client_that_does_not_read_loses_what_runs_and_what_was_held() -> None:
    driver = Driver()
    driver.connect("b")
    for number in range(3):
        driver.program(*asks(), program=number)
    driver.program(*asks(), client="b")
    driver.step()
    driver.program(*asks(), program=3)
    driver.front.overload("a", {0, 7})
    driver.pump()
    driver.run()
    assert [driver.finished(program=number).code for number in (0, 1, 2, 3, 7)] == [
        "overloaded"
    ] * 5
    assert driver.finished("b").code is None
    assert driver.front.num_streams == 0
    driver.program(*asks(), program=8)
    driver.run()
    assert driver.finished(program=8).code is None


def test_a_client_that_is_gone_can_be_overloaded() -> None:
    Driver().front.overload("nobody", {1})


GRAPHS = st.lists(
    st.tuples(
        st.sampled_from(["open", "grow", "end"]), st.integers(0, 3), st.text("x", max_size=9)
    ),
    max_size=40,
)


@given(steps=GRAPHS)
def test_the_quota_is_what_its_programs_have_together(steps) -> None:
    quota, sizes = Quota(Limits()), {}
    for what, program, text in steps:
        graph = Graph(program, 0, (Text(0, text), Text(0, 5)), options=Options(seed=1))
        if what == "open" and program not in sizes:
            quota.open(graph)
            sizes[program] = PROGRAM_BYTES
        elif what == "grow":
            quota.grow(graph)
            sizes[program] = sizes[program] + len(text) if program in sizes else None
            sizes = {key: size for key, size in sizes.items() if size is not None}
        elif what == "end":
            quota.end(program)
            sizes.pop(program, None)
        assert quota.num_bytes == sum(sizes.values())
        assert len(quota) == len(sizes)


class Lines:
    """Carries frames of clients who confirm what they get, but for the one who does not read."""

    def __init__(self, deaf: str | None) -> None:
        self.deaf = deaf
        self.clients: dict[str, Client] = {}
        self.seen: dict[str, list[Event]] = {}
        self.overflows: list[Client] = []

    def add(self, name: str) -> None:
        self.seen[name] = []
        client = self.clients[name] = Client(
            name.encode(), self, keeps=False, max_held_bytes=20_000
        )
        client.attach(name.encode(), Open(b"x" * 16, 0, fresh=True))

    def carry(self, link: bytes, frames: list[bytes]) -> None:
        name = link.decode()
        if name == self.deaf or len(frames) == 1:
            return
        self.seen[name] += decode_events(frames[1])
        self.clients[name].take([encode_header(Ack(decode_header(frames[0]).number))])

    def overflowed(self, client: Client) -> None:
        self.overflows.append(client)

    def refused(self, client: Client) -> None:
        raise AssertionError("nobody is refused")


def steps_of_b(deaf: str | None, monkeypatch) -> list[list[Event]]:
    """What "b" has got after each step of the engine, while "a" has a lot to get."""
    monkeypatch.setattr("furcate.runtime.transport.client.WINDOW_BYTES", 2_000)
    driver, lines = Driver(), Lines(deaf)
    driver.connect("b")
    for name in ("a", "b"):
        lines.add(name)
    many = [Gen(0, value, value, Sampling(max_tokens=20, ignore_eos=True)) for value in range(40)]
    for program in range(10):
        driver.program(Root(0), Text(0, "x"), *many, program=program, stream=True)
    driver.program(Root(0), Text(0, "y"), *many, client="b", stream=True)
    driver.events.clear()
    steps: list[list[Event]] = []
    num_overloads = 0
    while driver.engine.has_work:
        driver.step()
        for name, events in driver.events.items():
            lines.clients[name].send(events)
        driver.events.clear()
        for client in set(lines.overflows):
            driver.front.overload("a", client.drop_held())
            num_overloads += 1
        driver.pump()
        lines.overflows.clear()
        steps.append(lines.seen["b"])
        lines.seen["b"] = []
    assert num_overloads == (0 if deaf is None else 1)
    return steps


def test_one_that_does_not_read_delays_no_token_of_another(monkeypatch) -> None:
    alone = steps_of_b(None, monkeypatch)
    beside = steps_of_b("a", monkeypatch)
    assert beside == alone[: len(beside)]
    assert not any(alone[len(beside) :])
    assert any(isinstance(event, Finished) for step in beside for event in step)


# What is held for a client -----------------------------------------------------------------------

EVENTS = st.lists(
    st.one_of(
        st.builds(
            Delta,
            st.integers(0, 1),
            st.just(0),
            st.integers(0, 2),
            st.integers(0, 1),
            st.text("ab", max_size=3),
        ),
        st.builds(Value, st.integers(0, 1), st.integers(0, 2), st.text("c", max_size=2)),
        st.builds(lambda program: Finished(program, None), st.integers(0, 1)),  # type: ignore[arg-type]
    ),
    max_size=30,
)


def per_value(events):
    """What a reader makes of it: for each value the texts and the events that end them."""
    seen: dict[object, list[object]] = {}
    for event in events:
        if isinstance(event, Delta):
            story = seen.setdefault((event.program, event.value, event.sample), [""])
            story[-1] += event.text
        elif isinstance(event, Value):
            for sample in range(2):
                story = seen.setdefault((event.program, event.value, sample), [""])
                story += [event.data, ""]
        else:
            seen.setdefault(event.program, []).append("finished")
    return seen


@given(events=EVENTS, take=st.integers(1, 400))
def test_held_events_say_the_same_in_fewer_words(events, take: int) -> None:
    held = Held()
    arrived = []
    for place, event in enumerate(events):
        held.add([event])
        if place % 7 == 6:
            arrived += held.take(take)
    while held:
        arrived += held.take(take)
    assert per_value(arrived) == per_value(events)
    assert len(arrived) <= len(events)
    assert held.num_bytes == 0


def test_deltas_of_one_text_become_one_and_a_value_between_them_parts_them() -> None:
    held = Held()
    held.add([Delta(0, 0, 1, 0, "a"), Delta(0, 0, 2, 0, "x"), Delta(0, 0, 1, 0, "b")])
    held.add([Value(0, 1, "ab"), Delta(0, 0, 1, 0, "c"), Delta(0, 0, 2, 0, "y")])
    assert held.take(2**20) == [
        Delta(0, 0, 1, 0, "ab"),
        Delta(0, 0, 2, 0, "xy"),
        Value(0, 1, "ab"),
        Delta(0, 0, 1, 0, "c"),
    ]


def test_what_is_no_programs_stays_when_programs_are_dropped() -> None:
    held = Held()
    welcome = Welcome(2, "m", "f", 1)
    held.add([Delta(0, 0, 1, 0, "a"), welcome, Value(3, 1, "x")])
    assert held.drop_programs() == {0, 3}
    assert held.take(2**20) == [welcome]
