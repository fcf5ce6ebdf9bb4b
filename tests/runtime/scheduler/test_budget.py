"""A step's tokens by what steps were measured to cost."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.waiting import Streams

from furcate.runtime.scheduler.budget import MIN_CHUNK, StepBudget
from furcate.runtime.scheduler.pace import Pace
from furcate.runtime.scheduler.step_cost import StepCost
from furcate.runtime.testing import ManualClock

FIXED, TOKEN, POSITION = 2e-3, 2e-4, 3e-8


def cost_of(num_tokens: int, attended: int) -> float:
    return FIXED + TOKEN * num_tokens + POSITION * attended


class Machine:
    """Steps of a known cost, on a clock that they move."""

    def __init__(self, itl_s: float, max_tokens: int = 512) -> None:
        self.clock = ManualClock()
        self.budget = StepBudget(max_tokens, itl_s, self.clock)
        self._step = 0

    def step(self, num_tokens: int, attended: int, factor: float = 1.0) -> float:
        self._step += 1
        self.budget.launched(self._step, num_tokens, attended)
        self.clock.advance(cost_of(num_tokens, attended) * factor)
        return self.budget.collected(self._step)

    def learn(self, draw: random.Random, steps: int = 60) -> None:
        for _ in range(steps):
            num_tokens = draw.randrange(1, 513)
            self.step(num_tokens, num_tokens * draw.randrange(1, 2000))


def test_without_a_target_the_budget_is_fixed() -> None:
    machine = Machine(0.0)
    machine.learn(random.Random(1))
    assert machine.budget.tokens(30, 10_000) == 512


def test_before_anything_is_learnt_the_budget_is_the_most() -> None:
    assert Machine(0.01).budget.tokens(30, 10_000) == 512


def test_while_nobody_decodes_there_is_no_target_to_keep() -> None:
    machine = Machine(0.001)
    machine.learn(random.Random(1))
    assert machine.budget.tokens(0) == 512


@pytest.mark.parametrize("itl_ms", [10, 20, 50])
@pytest.mark.parametrize("depth", [0, 1000])
def test_the_budget_is_the_most_that_keeps_the_step_within_the_target(
    itl_ms: int, depth: int
) -> None:
    machine = Machine(itl_ms / 1000)
    machine.learn(random.Random(itl_ms))
    attended = 8 * 500
    count = machine.budget.tokens(8, attended, depth)
    longest = cost_of(count, attended + (count - 8) * depth)
    assert longest == pytest.approx(itl_ms / 1000, rel=0.05)


def test_a_target_that_cannot_be_kept_leaves_prompts_a_minimum() -> None:
    machine = Machine(0.001)
    machine.learn(random.Random(1))
    assert machine.budget.tokens(30, 0) == 30 + MIN_CHUNK


def test_the_minimum_is_no_more_than_the_most() -> None:
    machine = Machine(0.001, max_tokens=8)
    machine.learn(random.Random(1))
    assert machine.budget.tokens(30, 0) == 8


def test_steps_that_something_else_held_up_do_not_count_in_full() -> None:
    machine, draw = Machine(0.02), random.Random(3)
    machine.learn(draw)
    before = machine.budget.tokens(8, 4000)
    machine.step(300, 10_000, factor=1000.0)
    assert machine.budget.tokens(8, 4000) == pytest.approx(before, rel=0.35)
    machine.learn(draw)
    assert machine.budget.tokens(8, 4000) == pytest.approx(before, rel=0.1)


def test_a_machine_that_became_slower_is_learnt_anew() -> None:
    machine, draw = Machine(0.04), random.Random(4)
    machine.learn(draw)
    for _ in range(300):
        num_tokens = draw.randrange(1, 513)
        machine.step(num_tokens, num_tokens * 100, factor=4.0)
    count = machine.budget.tokens(8, 800, 100)
    assert 4 * cost_of(count, count * 100) == pytest.approx(0.04, rel=0.1)


def test_a_step_launched_while_another_runs_is_timed_from_the_end_of_that() -> None:
    clock = ManualClock()
    budget = StepBudget(512, 0.0, clock)
    budget.launched(1, 10, 0)
    clock.advance(1.0)
    budget.launched(2, 10, 0)
    clock.advance(2.0)
    assert budget.collected(1) == 3.0
    clock.advance(4.0)
    assert budget.collected(2) == 4.0


def test_a_step_that_failed_is_no_measurement() -> None:
    clock = ManualClock()
    budget = StepBudget(512, 0.0, clock)
    budget.launched(1, 10, 0)
    clock.advance(9.0)
    budget.failed(1)
    budget.launched(2, 10, 0)
    clock.advance(1.0)
    assert budget.collected(2) == 1.0


STEPS = st.lists(
    st.tuples(st.integers(1, 600), st.integers(0, 10**6), st.floats(0.0, 5.0)), max_size=40
)


@given(STEPS, st.integers(1, 500), st.integers(0, 10**6))
def test_more_tokens_never_cost_less_whatever_was_measured(
    steps: list[tuple[int, int, float]], num_tokens: int, attended: int
) -> None:
    cost = StepCost()
    for step in steps:
        cost.note(*step)
    least = cost.seconds(num_tokens, attended)
    assert 0.0 <= least <= cost.seconds(num_tokens + 1, attended)
    assert least <= cost.seconds(num_tokens, attended + 1)


@given(STEPS, st.integers(1, 64), st.integers(0, 10**6), st.integers(0, 4000))
def test_a_budget_lets_everybody_on(
    steps: list[tuple[int, int, float]], num_decoding: int, attended: int, depth: int
) -> None:
    clock = ManualClock()
    budget = StepBudget(512, 0.01, clock)
    for ordinal, (num_tokens, positions, seconds) in enumerate(steps):
        budget.launched(ordinal, num_tokens, positions)
        clock.advance(seconds)
        budget.collected(ordinal)
    assert num_decoding + MIN_CHUNK <= budget.tokens(num_decoding, attended, depth) <= 512


def test_the_time_a_stream_needs_grows_with_its_path_and_its_prompt() -> None:
    make, pace = Streams(), Pace(100)
    assert pace.seconds_needed(make(path=3)) == 0.0  # nothing is known yet
    for _ in range(1000):
        pace.stepped(0.01)
        pace.generated(20)
    assert pace.seconds_needed(make(num_uncomputed=0)) == pytest.approx(0.2, rel=0.01)
    assert pace.seconds_needed(make(num_uncomputed=1000)) == pytest.approx(0.3, rel=0.01)
    assert pace.seconds_needed(make(num_uncomputed=0, path=2)) == pytest.approx(0.6, rel=0.01)
