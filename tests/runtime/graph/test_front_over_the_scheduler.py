"""The front and the real scheduler together, on the context model: any wrong id, page or order
anywhere between a recording and the KV cache changes a value."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.front_driver import Driver
from tests.fakes.random_programs import RISKY, cuts, programs

from furcate.protocol.constraint import Constraint
from furcate.protocol.graph import Fork, Gen, Node, Role, Root, Select, Text
from furcate.protocol.message import Constraints, Value
from furcate.protocol.sampling import Sampling
from furcate.runtime.testing import ContextModel, ScriptedModel, make_scheduler, reply_with

BROKEN = Constraint(kind="regex", body="(")


def start() -> Driver:
    driver = Driver(make_scheduler(ContextModel()))
    driver.send(Constraints(0, (BROKEN,)))
    return driver


def test_a_conversation_runs_to_its_values() -> None:
    driver = Driver(
        make_scheduler(ScriptedModel(reply_with({"assistant\n": "Paris.", "again": " Yes!"})))
    )
    ask: list[Node] = [
        Root(0),
        Role(0, "user", "begin"),
        Text(0, "Capital of France?"),
        Role(0, "user", "end"),
        Role(0, "assistant", "begin"),
        Gen(0, 0, 1, Sampling(max_tokens=20)),
        Text(0, " again"),
        Gen(0, 1, 1, Sampling(max_tokens=20)),
        Role(0, "assistant", "end"),
    ]
    driver.program(*ask, stream=True)
    driver.run()
    assert driver.values() == {0: "Paris.", 1: " Yes!"}
    assert driver.deltas(0) == "Paris."
    assert driver.finished().code is None


def test_forks_compute_what_they_share_once() -> None:
    driver = start()
    prompt = "a shared prompt of some length. "
    nodes = [Root(0), Text(0, prompt), Fork(0, (1, 2, 3, 4))]
    nodes += [Gen(branch, branch, 1, Sampling(max_tokens=4)) for branch in range(1, 5)]
    driver.program(*nodes)
    driver.run()
    texts = [driver.values()[i] for i in range(1, 5)]
    usage = driver.finished().usage
    assert usage.computed <= len(prompt) + sum(len(str(text)) + 1 for text in texts)


def test_a_choice_and_its_scores_come_back() -> None:
    driver = start()
    driver.program(Root(0), Text(0, "is it "), Select(0, 0, 1, ("yes", "no")))
    driver.run()
    (value,) = driver.of(Value)
    assert value.data in (0, 1)
    assert sum(value.meta.scores.probabilities) == pytest.approx(1.0)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(programs(RISKY, 8), cuts())
def test_cut_or_whole_a_program_gives_the_same_values(nodes: list[Node], plan: list[int]) -> None:
    whole, cut = start(), start()
    whole.program(*nodes, stream=True)
    whole.run()
    epoch, rest = 0, list(nodes)
    while rest:
        size = plan[epoch % len(plan)] + 1
        cut.program(*rest[:size], epoch=epoch, done=len(rest) <= size, stream=True)
        rest = rest[size:]
        for _ in range(size):
            cut.step()
        epoch += 1
    cut.run()
    assert whole.values() == cut.values()
    assert whole.finished().code is None
    assert cut.finished().code is None
    for driver in (whole, cut):
        driver.disconnect_all()
        assert driver.front.num_streams == 0
        driver.front.check()


def failed_values(driver: Driver) -> set[int]:
    """Behind a failure, a node that has no value fails as such only if that is known first."""
    return {failed.value for failed in driver.failures() if failed.value is not None}


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.one_of(programs(), programs(RISKY, 10)), st.integers(0, 12), st.booleans())
def test_a_program_says_the_same_on_the_engine_that_follows(
    nodes: list[Node], steps: int, overlap: bool
) -> None:
    whole, driver = start(), start()
    whole.program(*nodes, stream=True)
    whole.run()
    driver.program(*nodes, stream=True)
    for _ in range(steps):
        driver.step()
    driver.lose_engine()
    driver.replace_engine(make_scheduler(ContextModel(), overlap=overlap))
    driver.run()
    assert driver.values() == whole.values()
    assert failed_values(driver) == failed_values(whole)
    for value, data in driver.values().items():
        if isinstance(data, str):
            assert driver.deltas(value) == whole.deltas(value)
    assert driver.finished().code is None
