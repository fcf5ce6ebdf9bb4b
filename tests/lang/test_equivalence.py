"""Laziness never changes meaning: a program gives the same ids and texts however its recording is
sent, whenever values are waited for, and whatever runs beside it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.in_process import model_session
from tests.fakes.random_bodies import Player, bodies, outcome
from tests.fakes.toy_bpe import toy_bpe

import furcate as fc
from furcate.runtime.testing import ContextModel

CODEC = toy_bpe()


@pytest.fixture(scope="module")
def engine():
    model = ContextModel(CODEC.vocab_size, likely=range(3, 200), end_ids=(0,))
    with model_session(model, CODEC, num_pages=2048, checks=False) as session:
        yield session


def at_once(player, state):
    """One delta."""


def eagerly(player, state):
    """Nothing is recorded before what comes before it is there."""
    state.text()


class Cuts:
    """Sends, waits or does neither, in turn as the plan says."""

    def __init__(self, plan):
        self.plan = plan

    def __call__(self, player, state):
        match self.plan[player.num_steps % len(self.plan)]:
            case "send":
                state._program.flush()
            case "wait":
                state.text()
            case "keep":
                pass


@fc.function
def played(s, body, between):
    player = Player(between)
    player.begin(s, body)
    s["player"] = player


def found(state):
    return outcome(state["player"])


def compare(engine, body, plan, seed):
    options = {"backend": engine, "seed": seed}
    eager = found(played.run(body, eagerly, **options))
    assert found(played.run(body, at_once, **options)) == eager
    assert found(played.run(body, Cuts(plan), **options)) == eager
    items = [(body, at_once), (body, eagerly), (body, Cuts(plan)), (body, at_once)]
    batched = played.run_batch(items, num_threads=3, **options)
    assert found(batched[0]) == eager
    later = [found(played.run(body, at_once, backend=engine, seed=seed + i)) for i in (1, 2, 3)]
    assert [found(state) for state in batched[1:]] == later


PLANS = st.lists(st.sampled_from(["keep", "send", "wait"]), min_size=1, max_size=6)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(bodies(), PLANS, st.integers(0, 99))
def test_however_a_program_is_sent_it_says_the_same(engine, body, plan, seed):
    compare(engine, body, plan, seed)


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@settings(max_examples=600, deadline=None)
@given(bodies(), PLANS, st.integers(0, 99))
def test_many_programs_say_the_same_however_they_are_sent(engine, body, plan, seed):
    compare(engine, body, plan, seed)
