"""The window by itself: nothing is lost, nothing overtakes, and nothing waits for ever."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import hypothesis.strategies as st
from hypothesis import given, settings

from furcate.lang._recording import Recorded, Taken
from furcate.lang.backend.window import OUTER_ROOM, Window
from furcate.protocol.graph import Text
from furcate.protocol.message import INNER_ROOM, PROGRAM_BYTES, Welcome

if TYPE_CHECKING:
    from furcate.lang._program import Program

MAX_PROGRAMS = 4
MAX_BYTES = 4 * PROGRAM_BYTES


@dataclass
class FakeResults:
    loss: Exception | None = None


@dataclass
class FakeRecording:
    pending_chars: int = 0
    done: bool = False


@dataclass
class FakeProgram:
    """What a window looks at of a program."""

    id: int
    results: FakeResults = field(default_factory=FakeResults)
    recording: FakeRecording = field(default_factory=FakeRecording)


class World:
    """Programs that begin, record, call, end and are forgotten, and what has been let go."""

    def __init__(self, max_programs: int | None = MAX_PROGRAMS, max_bytes: int | None = None):
        self.window = Window(Welcome(2, "m", "f", 1, max_programs, max_bytes))
        self.programs: list[FakeProgram] = []
        self.inner: set[int] = set()
        self.sent: list[int] = []
        self.running: dict[int, int] = {}

    def begin(self, chars: int, *, done: bool, inner: bool) -> None:
        program = FakeProgram(len(self.programs), recording=FakeRecording(chars, done))
        self.programs.append(program)
        if inner:
            self.inner.add(program.id)
            self.window.add_inner(program.id)
        self.flush(program)

    def flush(self, program: FakeProgram) -> None:
        for each in self.window.admit([cast("Program", program)]):
            self._leave(cast("FakeProgram", each))
        self.look()

    def look(self) -> None:
        """As a session does after every turn."""
        while self.window.is_ready:
            for program, _ in self.window.next_admitted():
                self._leave(cast("FakeProgram", program))

    def end(self, number: int) -> None:
        if self.running.pop(number, None) is not None:
            self.window.ended(number)
        self.look()

    def _leave(self, program: FakeProgram) -> None:
        if program.id not in self.sent:
            self.sent.append(program.id)
            self.running[program.id] = PROGRAM_BYTES
        if program.id in self.running:
            self.running[program.id] += program.recording.pending_chars
        text = Recorded(Text(0, "x" * program.recording.pending_chars), "text", "")
        self.window.sent(Taken(program.id, 0, (text,), program.recording.done, None))
        program.recording.pending_chars = 0

    @property
    def able(self) -> bool:
        return any(self.programs[number].recording.done for number in self.running)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.integers(0, 2_000), st.booleans()),
        st.tuples(st.just("inner"), st.integers(0, 2_000), st.booleans()),
        st.tuples(st.just("end"), st.integers(0, 30), st.none()),
        st.tuples(st.just("done"), st.integers(0, 30), st.none()),
        st.tuples(st.just("lose"), st.integers(0, 30), st.none()),
        st.tuples(st.just("forget"), st.integers(0, 30), st.none()),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(steps=STEPS, max_bytes=st.sampled_from([None, MAX_BYTES]))
def test_programs_leave_in_order_within_the_limits_and_all_of_them_at_last(
    steps, max_bytes
) -> None:
    world = World(max_bytes=max_bytes)
    lost: set[int] = set()
    for what, number, flag in steps:
        if what in ("begin", "inner"):
            world.begin(number, done=bool(flag), inner=what == "inner")
        elif number < len(world.programs):
            program = world.programs[number]
            if what == "end":
                world.end(number)
            elif what == "done":
                program.recording.done = True
                world.flush(program)
            elif what == "lose" and number not in world.sent:
                program.results.loss = ValueError("nobody waits for it")
                lost.add(number)
                world.look()
            elif what == "forget":
                lost.add(number)
                world.running.pop(number, None)
                world.window.forget([number])
                world.look()
        outers = sum(each not in world.inner for each in world.running)
        assert outers <= OUTER_ROOM * MAX_PROGRAMS
        if world.able and world.inner.isdisjoint(world.running) and world.window.num_waiting:
            assert len(world.running) <= INNER_ROOM * MAX_PROGRAMS
    while world.running:
        world.end(next(iter(world.running)))
    assert world.window.num_waiting == 0
    assert {*world.sent, *lost} == set(range(len(world.programs)))
    for kind in (world.inner, set(range(len(world.programs))) - world.inner):
        order = [number for number in world.sent if number in kind]
        assert order == sorted(order)


def test_a_program_larger_than_everything_goes_when_it_is_alone() -> None:
    world = World(max_bytes=MAX_BYTES)
    world.begin(10, done=True, inner=False)
    world.begin(100_000, done=True, inner=False)
    assert world.sent == [0]
    world.end(0)
    assert world.sent == [0, 1]


def test_while_a_call_is_open_its_program_does_not_count_as_one_that_ends() -> None:
    world = World(max_programs=2)
    world.begin(0, done=True, inner=False)
    world.begin(0, done=True, inner=False)
    world.begin(0, done=True, inner=False)
    assert world.sent == [0, 1]
    world.window.called(0)
    world.look()
    assert world.sent == [0, 1]
    world.window.called(1)
    world.look()
    assert world.sent == [0, 1, 2]
    world.window.answered(0, True)
    world.begin(0, done=True, inner=False)
    assert world.sent == [0, 1, 2]


def test_programs_inside_others_go_first_and_have_room_of_their_own() -> None:
    world = World(max_programs=2)
    for _ in range(4):
        world.begin(0, done=True, inner=False)
    for _ in range(3):
        world.begin(0, done=True, inner=True)
    assert world.sent == [0, 1, 4, 5]
    world.end(0)
    assert world.sent == [0, 1, 4, 5, 6]


def test_the_branches_of_a_program_that_waits_are_cancelled_behind_it() -> None:
    world = World(max_programs=1)
    world.begin(0, done=True, inner=False)
    world.begin(0, done=True, inner=False)
    assert world.window.withdraw(1, 3)
    assert not world.window.withdraw(0, 3)
    world.running.clear()
    world.window.ended(0)
    ((program, branches),) = world.window.next_admitted()
    assert (program.id, branches) == (1, [3])


def test_a_server_without_limits_holds_nothing_back() -> None:
    world = World(max_programs=None)
    for _ in range(100):
        world.begin(10_000, done=True, inner=False)
    assert world.sent == list(range(100))
