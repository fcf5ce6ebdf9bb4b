"""Checked Gens in the front: what is asked about each attempt, and where the branch goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.fakes.fake_engine import FakeEngine
from tests.fakes.front_driver import Driver

from furcate.protocol.graph import Fill, Fork, Gen, Text
from furcate.protocol.message import Answer, Cancel, Delta, Finished, Invoke, Value
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import CancelStream, End, Generate, Hint
from furcate.runtime.testing import ContextModel, make_scheduler

if TYPE_CHECKING:
    from furcate.protocol.graph import Node

SAY = Sampling(max_tokens=6, ignore_eos=True)


@pytest.fixture
def driver():
    return Driver()


def checked(value: int, retries: int = 0, branch: int = 0, **fields) -> Gen:
    return Gen(branch, value, 0, SAY, check=3, retries=retries, **fields)


def plain(value: int, branch: int = 0) -> Gen:
    return Gen(branch, value, 0, SAY)


def answer(driver: Driver, *verdicts: str | None) -> list[Invoke]:
    """Answers the questions in their order, as they come."""
    asked = []
    for verdict in verdicts:
        driver.run()
        asked.append(driver.of(Invoke)[-1])
        driver.send(Answer(0, asked[-1].call, verdict))
    driver.run()
    return asked


def generations(driver: Driver) -> list[Generate]:
    return [n for r in driver.sent for n in getattr(r, "nodes", ()) if isinstance(n, Generate)]


def texts(*nodes: Node, engine=None) -> dict[int, object]:
    driver = Driver(engine)
    driver.program(*nodes)
    driver.run()
    return driver.values()


def test_the_first_attempt_is_what_would_be_said_without_a_check(driver):
    driver.program(Text(0, "a"), checked(0), Text(0, "b"), plain(1))
    (asked,) = answer(driver, None)
    assert asked.function == 3
    assert asked.args == (driver.values()[0], "length", 1)
    assert driver.values() == texts(Text(0, "a"), plain(0), Text(0, "b"), plain(1))
    assert driver.finished().code is None


def test_a_refused_attempt_is_followed_by_another_draw_from_the_same_prefix(driver):
    driver.program(Text(0, "a"), checked(0, 3), plain(1))
    asked = answer(driver, "no", "not this", None)
    said = [question.args[0] for question in asked]
    assert len(set(said)) == 3
    assert [question.args[2] for question in asked] == [1, 2, 3]
    assert driver.values()[0] == said[2]
    (value,) = [event for event in driver.of(Value) if event.value == 0]
    assert value.meta.attempts == 3
    assert value.meta.usage.completion == 3 * SAY.max_tokens
    assert len({message.seed for message in generations(driver)}) == 4
    again = Driver()
    again.program(Text(0, "a"), checked(0, 3), plain(1))
    answer(again, "no", "not this", None)
    assert again.values() == driver.values()


def test_the_branch_goes_on_with_the_ids_of_the_accepted_attempt():
    """Whatever text it spells: the same as if they had been generated on the branch itself."""
    engine = FakeEngine(lambda message, before: [233, 104, 105])  # half a character at first
    driver = Driver(engine)
    driver.program(Text(0, "a"), checked(0), Text(0, "b"), plain(1))
    answer(driver, None)
    assert (97, 233, 104, 105, 98, 233, 104, 105) in engine.finals


def test_what_follows_waits_for_the_check_and_other_branches_do_not(driver):
    driver.program(
        Text(0, "a"), Fork(0, (1, 2)), checked(0, branch=1), plain(1, 1), plain(2, 2), Fill(2, 0)
    )
    driver.run()
    assert sorted(driver.values()) == [2]
    answer(driver, None)
    assert sorted(driver.values()) == [0, 1, 2]
    assert driver.finished().code is None


def test_after_the_last_attempt_the_node_fails_with_what_was_wrong(driver):
    driver.program(Text(0, "a"), checked(0, 1), plain(1))
    answer(driver, "no", "still no")
    assert [(f.value, f.code) for f in driver.failures()] == [(0, "validation"), (1, "upstream")]
    assert driver.failures()[0].message == "still no"
    assert len(driver.of(Invoke)) == 2
    assert driver.finished().code is None


def test_an_answer_with_a_code_fails_the_node_at_once(driver):
    driver.program(Text(0, "a"), checked(0, 5))
    driver.run()
    driver.send(Answer(0, 0, None, "usage", "the check returned 3"))
    assert [(f.value, f.code) for f in driver.failures()] == [(0, "usage")]


def test_an_answer_that_is_no_verdict_refuses_the_program(driver):
    driver.program(Text(0, "a"), checked(0, 5))
    driver.run()
    driver.send(Answer(0, 0, 3))
    driver.run()
    assert driver.finished().code == "wire"


@pytest.mark.parametrize(
    ("gen", "named"),
    [
        (Gen(0, 0, 0, SAY, retries=2), "retries=2 has no effect without a check"),
        (Gen(0, 0, 0, Sampling(n=2), check=0), "n=2"),
        (Gen(0, 0, 0, Sampling(temperature=0.0), check=0, retries=1), "temperature"),
    ],
)
def test_what_cannot_be_checked_or_tried_again_is_refused(driver, gen, named):
    driver.program(Text(0, "a"), gen)
    (failure,) = driver.failures()
    assert failure.code == "usage"
    assert named in failure.message


def test_nothing_of_an_attempt_is_told_before_it_is_accepted(driver):
    driver.program(Text(0, "a"), checked(0, 1), stream=True)
    answer(driver, "no", None)
    kinds = [type(event) for event in driver.events["a"][1:]]
    assert kinds == [Invoke, Invoke, Delta, Value, Finished]
    assert driver.deltas(0) == driver.values()[0]


def test_a_constraint_that_cannot_be_compiled_is_not_tried_again(driver):
    from furcate.protocol.constraint import Constraint
    from furcate.protocol.message import Constraints

    driver.send(Constraints(0, (Constraint(kind="regex", body="bad"),)))
    driver.program(Text(0, "a"), checked(0, 3, constraint=0), plain(1))
    driver.run()
    assert [(f.value, f.code) for f in driver.failures()] == [(0, "constraint"), (1, "upstream")]
    assert driver.of(Invoke) == []
    assert driver.finished().code is None


@pytest.mark.parametrize("steps", [0, 2, 100])
def test_a_cancelled_branch_ends_its_attempt_wherever_it_is(driver, steps):
    driver.program(Text(0, "a"), Fork(0, (1,)), checked(0, 2, branch=1), plain(1), done=False)
    for _ in range(min(steps, 20)):
        driver.step()
    driver.send(Cancel(0, 1))
    driver.run()
    assert [(f.value, f.code) for f in driver.failures()] == [(0, "cancelled")]
    driver.send(Answer(0, 0, None))
    assert sorted(driver.values()) == [1]
    assert driver.front.num_streams <= 1
    driver.disconnect_all()
    assert driver.front.num_streams == 0


@pytest.mark.parametrize("steps", [0, 2, 20])
def test_a_program_that_ends_early_ends_its_attempt(driver, steps):
    driver.program(Text(0, "a"), checked(0, 2), timeout_s=1.0)
    for _ in range(steps):
        driver.step()
    driver.front.tick(5.0)
    driver.pump()
    driver.run()
    assert driver.finished().code == "deadline"
    assert driver.front.num_streams == 0
    assert driver.values() == {}


@pytest.mark.parametrize("steps", [0, 1, 3, 6, 20])
def test_attempts_are_the_same_over_an_engine_that_ends(steps):
    whole, cut = Driver(), Driver()
    for driver in (whole, cut):
        driver.program(Text(0, "a"), plain(9), checked(0, 2), plain(1))
    answer(whole, "no", None)
    for _ in range(steps):
        cut.step()
    cut.lose_engine()
    cut.replace_engine(FakeEngine())
    answer(cut, "no", None)
    assert cut.values() == whole.values()
    assert cut.finished().code is None


def test_an_engine_that_ends_while_the_client_checks_is_not_missed(driver):
    driver.program(Text(0, "a"), checked(0, 2), plain(1))
    driver.run()
    driver.lose_engine()
    (asked,) = driver.of(Invoke)
    driver.send(Answer(0, asked.call, None))
    driver.replace_engine(FakeEngine())
    driver.run()
    assert driver.values() == texts(Text(0, "a"), plain(0), plain(1))


def test_the_stream_of_an_attempt_is_idle_while_it_is_checked_and_ends_after(driver):
    driver.program(Text(0, "a"), checked(0, 1), plain(1))
    while not driver.of(Invoke):
        driver.step()
    hints = {r.stream: r for r in driver.sent if isinstance(r, Hint)}
    assert {hint.next_use for hint in hints.values()} == {"idle"}
    assert not any(isinstance(n, End) for r in driver.sent for n in getattr(r, "nodes", ()))
    answer(driver, "no", None)
    assert driver.front.num_streams == 0
    assert not any(isinstance(r, CancelStream) for r in driver.sent)


def test_over_the_scheduler_the_branch_finds_the_attempts_kv_in_the_cache():
    engine = make_scheduler(ContextModel(max_context=512), page_size=4)
    driver = Driver(engine)
    driver.program(Text(0, "a prefix that is a little longer"), checked(0, 1), plain(1))
    answer(driver, "no", None)
    unchecked = Driver(make_scheduler(ContextModel(max_context=512), page_size=4))
    unchecked.program(Text(0, "a prefix that is a little longer"), plain(0), plain(1))
    unchecked.run()
    extra = driver.finished().usage.computed - unchecked.finished().usage.computed
    # The second attempt's tokens, and less than a page of each prefix that is taken up again.
    assert extra <= SAY.max_tokens + 3 * 4
