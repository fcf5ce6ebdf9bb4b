"""Call nodes in the front: who is asked for what and when, and what an answer does."""

from __future__ import annotations

import pytest
from tests.fakes.fake_engine import FakeEngine
from tests.fakes.front_driver import Driver

from furcate.protocol.graph import Call, Drop, Fill, Fork, Gen, Let, Root, Text, ValueRef
from furcate.protocol.message import Answer, Cancel, Finished, Invoke, Release
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import Hint

SAY = Sampling(max_tokens=4)


@pytest.fixture
def driver():
    return Driver()


def gen(value: int, branch: int = 0) -> Gen:
    return Gen(branch, value, 0, SAY)


def test_the_client_is_asked_with_the_values_of_the_arguments(driver):
    driver.program(
        Text(0, "a"), gen(0), Call(0, 1, 5, (ValueRef(0), "x", None, 2.5, True)), Fill(0, 1), gen(2)
    )
    assert driver.of(Invoke) == []
    driver.run()
    (asked,) = driver.of(Invoke)
    assert (asked.function, asked.args) == (5, (driver.values()[0], "x", None, 2.5, True))
    assert driver.of(Finished) == []
    driver.send(Answer(0, asked.call, "told"))
    driver.run()
    assert driver.values()[1] == "told"
    assert driver.finished().code is None


def test_a_program_of_calls_alone_ends_with_the_last_answer(driver):
    driver.program(Call(0, 0, 0), Call(0, 1, 1, (ValueRef(0),)))
    (first,) = driver.of(Invoke)
    driver.send(Answer(0, first.call, [1, [2]]))
    second = driver.of(Invoke)[1]
    assert second.args == ([1, [2]],)
    assert driver.of(Finished) == []
    driver.send(Answer(0, second.call, None))
    assert driver.finished().code is None
    assert driver.values() == {0: [1, [2]], 1: None}


def test_a_call_waits_for_the_one_before_it_on_its_branch_and_no_other(driver):
    driver.program(
        Call(0, 0, 0), Fork(0, (1, 2)), Call(0, 1, 1), Call(1, 2, 2), Call(2, 3, 3), Call(2, 4, 4)
    )
    assert [asked.function for asked in driver.of(Invoke)] == [0]
    driver.send(Answer(0, 0, None, "call", "it raised"))
    # What a call depends on are its arguments: one that has failed holds up none.
    assert [asked.function for asked in driver.of(Invoke)] == [0, 1, 2, 3]


def test_what_comes_after_a_call_on_its_branch_goes_on(driver):
    driver.program(Text(0, "a"), Call(0, 0, 0), gen(1), Fill(0, 0))
    driver.run()
    assert 1 in driver.values()


def test_a_failed_call_fails_what_uses_it_and_leaves_its_branch(driver):
    driver.program(Text(0, "a"), Call(0, 0, 0), Let(1, "upper", (ValueRef(0),)), gen(2))
    driver.send(Answer(0, 0, None, "call", "f() raised ValueError()"))
    driver.run()
    failures = [(f.value, f.branch, f.code) for f in driver.failures()]
    assert failures == [(0, None, "call"), (1, None, "upstream")]
    assert 2 in driver.values()
    assert driver.finished().code is None


def test_a_call_with_a_failed_argument_is_not_made(driver):
    driver.program(
        Text(0, "a"), Gen(0, 0, 0, Sampling(stop_token_ids=(999,))), Call(0, 1, 0, (ValueRef(0),))
    )
    assert driver.of(Invoke) == []
    assert [(f.value, f.code) for f in driver.failures()] == [(0, "usage"), (1, "upstream")]


def test_late_double_and_unknown_answers_change_nothing(driver):
    driver.program(Call(0, 0, 0), Call(0, 1, 0), done=False)
    driver.send(Answer(0, 99, "x"), Answer(7, 0, "x"), Answer(0, 1, "too early"))
    assert driver.values() == {}
    driver.send(Answer(0, 0, "first"), Answer(0, 0, "second"))
    assert driver.values() == {0: "first"}
    driver.send(Cancel(0), Answer(0, 1, "late"))
    assert driver.values() == {0: "first"}
    assert driver.finished().code == "cancelled"
    driver.send(Release((0,)), Answer(0, 1, "later"))


def test_a_call_ends_with_its_program_at_the_deadline(driver):
    driver.program(Call(0, 0, 0), timeout_s=1.0)
    driver.front.tick(2.0)
    driver.pump()
    assert driver.finished().code == "deadline"
    assert [f.code for f in driver.failures()] == ["deadline"]
    driver.send(Answer(0, 0, "late"))
    driver.front.check()


def test_a_call_ends_with_its_branch(driver):
    driver.program(Fork(0, (1,)), Call(1, 0, 0), Call(1, 1, 1), Call(0, 2, 2), done=False)
    asked = {event.function: event.call for event in driver.of(Invoke)}
    driver.send(Cancel(0, 1))
    assert [(f.value, f.code) for f in driver.failures()] == [(0, "cancelled"), (1, "cancelled")]
    driver.send(Answer(0, asked[0], "late"), Answer(0, asked[2], "told"))
    assert driver.values() == {2: "told"}
    assert sorted(event.function for event in driver.of(Invoke)) == [0, 2]


def test_calls_need_no_engine_and_survive_one_that_ends(driver):
    driver.program(Text(0, "a"), gen(0), Call(0, 1, 0, (ValueRef(0),)), Fill(0, 1), gen(2))
    driver.run()
    driver.lose_engine()
    driver.send(Answer(0, 0, "told"))
    driver.replace_engine(FakeEngine())
    driver.run()
    whole = Driver()
    whole.program(Text(0, "a"), gen(0), Text(0, "told"), gen(2))
    whole.run()
    assert driver.values() == whole.values() | {1: "told"}


def test_what_a_call_returns_counts_as_text_that_a_program_makes():
    from furcate.runtime.graph.limits import Limits

    driver = Driver(limits=Limits(derived_chars=10))
    driver.program(Call(0, 0, 0), Call(0, 1, 0))
    driver.send(Answer(0, 0, "x" * 11), Answer(0, 1, ["x" * 9]))
    assert [(f.value, f.code) for f in driver.failures()] == [(0, "capacity")]
    assert driver.values() == {1: ["x" * 9]}


def test_a_branch_held_up_by_a_call_is_idle_for_as_long_as_is_expected(driver):
    driver.program(
        Text(0, "a"), gen(0), Call(0, 1, 0, (ValueRef(0),), 2.5), Fill(0, 1), gen(2), done=False
    )
    driver.run()
    hints = [request for request in driver.sent if isinstance(request, Hint)]
    assert (hints[-1].next_use, hints[-1].expect_s) == ("idle", 2.5)
    driver.send(Answer(0, 0, "told"))
    driver.run()
    hints = [request for request in driver.sent if isinstance(request, Hint)]
    assert (hints[-1].next_use, hints[-1].expect_s) == ("idle", None)


def test_a_call_on_a_dropped_branch_and_of_an_unknown_value_is_refused(driver):
    driver.program(Root(0), Fork(0, (1,)), Drop(1), Call(1, 0, 0))
    assert driver.finished().code == "usage"
    driver.program(Call(0, 0, 0, (ValueRef(9),)), program=1)
    assert driver.finished(program=1).code == "usage"
    driver.program(Call(0, 0, 0, (), -1.0), program=2)
    assert driver.finished(program=2).code == "usage"
    assert driver.of(Invoke) == []


def test_a_call_is_made_also_behind_what_has_failed_on_its_branch(driver):
    """That may be known at any time, so nothing may hang on when."""
    driver.program(Text(0, "a"), Gen(0, 0, 0, Sampling(stop_token_ids=(999,))), Call(0, 1, 0))
    assert [f.value for f in driver.failures()] == [0]
    driver.send(Answer(0, 0, "told"))
    assert driver.values() == {1: "told"}
