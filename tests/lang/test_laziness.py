"""Laziness never changes meaning: wherever a recording is cut, the result is the eager one."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

import furcate as fc

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["text", "long", "gen", "select", "fork", "child", "fill", "lower", "append", "role"]
        ),
        st.integers(0, 5),
        st.sampled_from(["keep", "flush", "force", "text"]),
    ),
    max_size=25,
)


class Player:
    """Plays steps on a state; what a step means depends on earlier steps alone."""

    def __init__(self, state, eager: bool) -> None:
        self.state, self.eager = state, eager
        self.groups, self.names = [], []

    def play(self, steps) -> None:
        for step, number, cut in steps:
            getattr(self, step)(number)
            if self.eager:
                self.state._program.flush()
                for name in self.names:
                    self.state[name]
            elif cut == "flush":
                self.state._program.flush()
            elif cut == "force" and self.names:
                self.state[self.names[number % len(self.names)]]
            elif cut == "text":
                self.state.text()

    def named(self, kind: str) -> str:
        self.names.append(f"{kind}{len(self.names)}")
        return self.names[-1]

    def text(self, number: int) -> None:
        self.state += f"t{number} "

    def long(self, number: int) -> None:
        self.state += "Long enough to be shared between programs and within one. " * 2 + str(number)

    def gen(self, number: int) -> None:
        self.state += fc.gen(self.named("g"), stop="9" if number == 0 else None, n=1 + number % 2)

    def select(self, number: int) -> None:
        self.state += fc.select(self.named("s"), ["a", "b", "c"])

    def fork(self, number: int) -> None:
        self.groups.append(self.state.fork(1 + number % 3))

    def child(self, number: int) -> None:
        if self.groups:
            self.groups[-1] += lambda index: f"c{index}" + fc.gen("own")

    def append(self, number: int) -> None:
        if self.groups:
            self.groups.pop().join("append")

    def fill(self, number: int) -> None:
        if self.names:
            self.state += self._one(number)

    def lower(self, number: int) -> None:
        if self.names:
            self.state += "[" + self._one(number).lower().strip("<") + "]"

    def _one(self, number: int):
        ref = self.state.ref(self.names[number % len(self.names)])
        return ref[1] if ref.slot.samples > 1 else ref

    def role(self, number: int) -> None:
        self.state += fc.user(f"turn {number}")


@fc.function
def played(s, steps, eager):
    s += "Begin. "
    player = Player(s, eager)
    player.play(steps)
    return player.names


def outcome(state) -> tuple[object, ...]:
    return state.text(), [state[name] for name in state.ret_value]


@pytest.fixture(scope="module")
def engine():
    """The real runtime on the context model: any difference in what it read shows."""
    with fc.Engine("test:context", kv_bytes="4MiB") as backend:
        yield backend


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_wherever_the_recording_is_cut_the_result_is_the_eager_one(echo, steps):
    eager = played.run(steps, True, backend=echo, seed=1)
    lazy = played.run(steps, False, backend=echo, seed=1)
    assert outcome(lazy) == outcome(eager)
    batched = played.run_batch([(steps, False), (steps, True), (steps, False)], backend=echo)
    assert [outcome(state) for state in batched] == [outcome(eager)] * 3


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(steps=STEPS)
def test_the_same_on_the_runtime(engine, steps):
    options = {"backend": engine, "seed": 1, "max_new_tokens": 4}
    eager = played.run(steps, True, **options)
    lazy = played.run(steps, False, **options)
    assert outcome(lazy) == outcome(eager)
    (batched,) = played.run_batch([(steps, False)], **options)
    assert outcome(batched) == outcome(eager)
