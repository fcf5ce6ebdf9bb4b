"""`gen(check=, retries=)`: an output that will not do makes way for another."""

import asyncio
import threading
from typing import Literal

import pydantic
import pytest
from tests.fakes.in_process import model_session

import furcate as fc
from furcate.runtime.testing import ContextModel, ScriptedModel

WAIT_S = 5.0


@pytest.fixture(scope="module")
def engine():
    """Says something else for each seed; constraints hold."""
    with model_session(ContextModel(), num_pages=512, checks=False) as backend:
        yield backend


class Even(pydantic.BaseModel):
    number: int

    @pydantic.field_validator("number")
    @classmethod
    def must_be_even(cls, number: int) -> int:
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number


@fc.function
def program(s, keywords):
    s += "say: " + fc.gen("x", **{"max_tokens": 12, **keywords}) + "!" + fc.gen("y", max_tokens=3)


def says(backend, seed=0, timeout=None, stream=False, **keywords):
    return program.run(keywords, backend=backend, seed=seed, timeout=timeout, stream=stream)


def test_an_accepted_output_is_what_comes_without_a_check(engine):
    seen = []
    checked = says(engine, check=seen.append, seed=3)
    plain = says(engine, seed=3)
    assert seen == [plain["x"]]
    assert checked.text() == plain.text()
    assert checked.get_meta_info("x")["attempts"] == 1


@pytest.mark.parametrize("no", [False, "too short", ""])
def test_a_refused_output_makes_way_for_another_draw(engine, no):
    seen = []

    def third(text):
        seen.append(text)
        return True if len(seen) == 3 else no

    state = says(engine, check=third, retries=5, seed=3)
    assert len(set(seen)) == 3
    assert state["x"] == seen[2]
    assert state.text() == "say: " + seen[2] + "!" + state["y"]
    assert state.get_meta_info("x")["attempts"] == 3
    first = says(engine, seed=3)
    assert state.usage.decoded > first.usage.decoded


def test_attempts_are_a_function_of_the_seed(engine):
    def run(seed):
        seen = []
        program.run_batch(
            [({"check": lambda t: seen.append(t) or len(seen) > 2, "retries": 4},)],
            backend=engine,
            seed=seed,
        )
        return seen

    assert run(3) == run(3)
    assert run(3) != run(4)


def test_after_the_last_attempt_the_error_has_value_and_attempts_and_says_why(engine):
    def refuses(text):
        return "it has no point"

    with pytest.raises(fc.ProgramError, match=r"it has no point \(attempt 3 of 3\)") as raised:
        says(engine, check=refuses, retries=2)
    failure = raised.value.cause
    assert isinstance(failure, fc.ValidationFailed)
    assert failure.attempts == 3
    assert isinstance(failure.value, str)
    assert failure.error is None
    assert raised.value.node == "gen 'x'"
    assert raised.value.location.startswith(__file__)


def test_what_a_check_raises_refuses_and_is_the_errors_error(engine):
    def asserts(text):
        raise AssertionError("nothing is right")

    with pytest.raises(fc.ProgramError, match=r"asserts\(\) raised AssertionError") as raised:
        says(engine, check=asserts, retries=1)
    failure = raised.value.cause
    assert isinstance(failure, fc.ValidationFailed)
    assert isinstance(failure.error, AssertionError)
    assert failure.attempts == 2


def test_a_check_without_retries_has_one_attempt(engine):
    with pytest.raises(fc.ProgramError) as raised:
        says(engine, check=lambda text: False)
    assert raised.value.cause.attempts == 1
    assert "attempt" not in str(raised.value)


def test_a_check_gets_the_value_of_the_type_and_the_variable_is_that_object(engine):
    seen = []

    def small(value):
        seen.append(value)
        return abs(value.number) < 50

    state = says(engine, type=Even, check=small, retries=60, max_tokens=40, seed=1)
    assert all(type(value) is Even for value in seen)
    assert state["x"] is seen[-1]
    assert abs(state["x"].number) < 50
    assert state.get_meta_info("x")["attempts"] >= len(seen)


def test_retries_alone_try_again_where_the_type_does_not_fit(engine):
    attempts = [
        says(engine, type=Even, retries=40, max_tokens=40, seed=seed).get_meta_info("x")["attempts"]
        for seed in range(4)
    ]
    assert max(attempts) > 1


def test_a_cut_output_is_tried_again_and_at_last_truncated(engine):
    with pytest.raises(fc.ProgramError, match=r"attempt 3 of 3") as raised:
        says(engine, type=list[int], retries=2, max_tokens=1)
    failure = raised.value.cause
    assert isinstance(failure, fc.Truncated)
    assert failure.attempts == 3


def test_a_body_may_deal_with_what_the_check_has_refused(engine):
    @fc.function
    def tries(s):
        child = s.fork(1)[0]
        child += "say: " + fc.gen("x", check=lambda text: False, max_tokens=5)
        try:
            return child["x"]
        except fc.ProgramError as error:
            return error.cause.attempts

    assert tries.run(backend=engine).ret_value == 1


def test_forked_branches_are_checked_side_by_side(engine):
    both = threading.Barrier(2)

    @fc.function
    def forks(s):
        children = s.fork(2)
        children += "say: " + fc.gen("x", check=lambda text: both.wait(WAIT_S) >= 0, max_tokens=5)
        children.join()
        return s["x"]

    assert len(forks.run(backend=engine, timeout=WAIT_S).ret_value) == 2


def test_a_check_may_run_a_program_of_its_own(engine):
    @fc.function
    def judge(s, text):
        s += "good? " + text + fc.gen("verdict", type=Literal["yes", "no"])
        return s["verdict"] == "yes"

    state = says(
        engine,
        check=lambda text: judge.run(text, backend=engine, seed=len(text)).ret_value,
        retries=40,
        seed=5,
    )
    assert state["x"] is not None


def test_an_async_check_of_an_async_program_runs_on_its_loop(engine):
    loops = []

    async def check(text):
        loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return len(loops) > 1

    @fc.function
    async def says_async(s):
        loops_of_body.append(asyncio.get_running_loop())
        s += "say: " + fc.gen("x", max_tokens=5, check=check, retries=3)
        return await s.aget("x")

    loops_of_body = []
    asyncio.run(says_async.arun(backend=engine))
    assert set(loops) == set(loops_of_body)
    assert len(loops) == 2


def test_an_async_check_of_a_plain_program_is_awaited(engine):
    async def check(text):
        await asyncio.sleep(0)
        return "no" if not seen.append(text) and len(seen) < 2 else None

    seen = []
    state = says(engine, check=check, retries=3)
    assert state["x"] == seen[1]


def test_the_text_of_a_checked_gen_streams_when_it_is_accepted(engine):
    seen = []

    def second(text):
        seen.append(text)
        return len(seen) == 2

    state = says(engine, check=second, retries=3, stream=True, seed=1)
    events = [event for event in state.events() if event.var == "x"]
    assert [event.delta for event in events] == [seen[1]]
    assert "".join(state.text_iter("x")) == seen[1]


def test_logprobs_are_those_of_the_accepted_output(engine):
    seen = []
    state = says(
        engine,
        check=lambda text: seen.append(text) or len(seen) == 2,
        retries=3,
        return_logprob=True,
        return_text_in_logprobs=True,
    )
    tokens = state.get_meta_info("x")["output_token_logprobs"]
    assert "".join(text for _, _, text in tokens).startswith(state["x"])


def test_each_run_of_a_loop_is_checked_anew(engine):
    seen = []

    @fc.function
    def loops(s):
        def body(s):
            s += "say: "
            s += fc.gen(
                "x", max_tokens=6, check=lambda t: seen.append(t) or len(seen) % 2 == 0, retries=3
            )

        s.loop(body, max_iters=3)

    state = loops.run(backend=engine, seed=1)
    assert state.text() == "".join("say: " + text for text in seen[1::2])
    assert len(seen) == 6


def test_a_checked_gen_in_a_loop_fails_with_its_value_and_attempts(engine):
    @fc.function
    def loops(s):
        def body(s):
            s += "say: " + fc.gen("x", max_tokens=6, check=lambda text: "never", retries=1)

        s.loop(body, max_iters=3)

    with pytest.raises(fc.ProgramError, match="never") as raised:
        loops.run(backend=engine)
    assert raised.value.cause.attempts == 2


def test_what_stopped_the_accepted_output_is_saved(engine):
    seen = []
    state = says(
        engine,
        max_tokens=60,
        stop_regex="[a-m]",
        save_stop="end",
        check=lambda text: seen.append(text) or len(seen) == 3,
        retries=5,
        seed=2,
    )
    assert state["x"] == seen[2]
    assert len(state["end"]) == 1
    assert state.get_meta_info("x")["finish_reason"]["matched"] == state["end"]


def test_the_best_of_checked_outputs_goes_on(engine):
    @fc.function
    def best(s):
        children = s.fork(3)
        children += "say: " + fc.gen("x", max_tokens=6, check=lambda t: len(t) > 2, retries=20)
        children += "rate: " + fc.gen("score", type=int, choices=["1", "2", "3"])
        chosen = children.best("score")
        return chosen[0].ref("x"), chosen[0].ref("score")

    text, score = best.run(backend=engine, seed=1).ret_value
    assert len(text) > 2
    assert score in (1, 2, 3)


def test_many_programs_are_checked(engine):
    states = program.run_batch(
        [({"check": lambda text: len(text) % 3 != 1, "retries": 30, "max_tokens": 6},)] * 40,
        backend=engine,
        on_error="return",
        seed=0,
    )
    assert all(state.ok for state in states)
    assert all(len(state["x"]) % 3 != 1 for state in states)


def test_a_check_that_never_returns_ends_with_the_programs_timeout(engine):
    release = threading.Event()
    with pytest.raises(fc.ProgramError) as raised:
        says(engine, check=lambda text: release.wait(), timeout=0.1)
    assert isinstance(raised.value.cause, fc.DeadlineExceeded)
    release.set()


@pytest.mark.parametrize("verdict", [3, [], 0.5, object()])
def test_a_verdict_that_is_none_is_told_with_its_type(engine, verdict):
    with pytest.raises(fc.ProgramError, match=f"of type {type(verdict).__name__}") as raised:
        says(engine, check=lambda text: verdict, retries=3)
    assert isinstance(raised.value.cause, fc.UsageError)


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"check": 3}, "check must be a function"),
        ({"retries": -1}, "retries must be an integer from 0 to 64"),
        ({"retries": 65}, "retries must be an integer from 0 to 64"),
        ({"retries": True}, "retries must be an integer"),
        ({"retries": 2}, "retries=2 has no effect"),
        ({"retries": 2, "type": str}, "retries=2 has no effect"),
        ({"retries": 2, "regex": "a+"}, "retries=2 has no effect"),
        ({"check": bool, "choices": ["a"]}, "check has no effect with choices"),
        ({"retries": 1, "choices": ["a"]}, "retries has no effect with choices"),
    ],
)
def test_a_wrong_check_is_refused_at_the_call(keywords, named):
    with pytest.raises(fc.UsageError, match=named):
        fc.gen("x", **keywords)


@pytest.mark.parametrize(
    ("keywords", "run", "named"),
    [
        ({"check": bool, "n": 2}, {}, "n=2"),
        ({"check": bool, "retries": 1, "temperature": 0.0}, {}, "temperature 0.0"),
        ({"check": bool, "retries": 1}, {"temperature": 0.0}, "temperature 0.0"),
    ],
)
def test_what_cannot_be_tried_again_is_refused_where_it_is_recorded(engine, keywords, run, named):
    @fc.function
    def wrong(s):
        s += fc.gen("x", **keywords)

    with pytest.raises(fc.UsageError, match=named):
        wrong.run(backend=engine, **run)


def test_a_greedy_output_may_be_checked_once():
    model = ScriptedModel(lambda ids: ord("a"))
    with model_session(model) as backend:
        state = says(backend, check=lambda t: t == "aaa", max_tokens=3, temperature=0.0)
        assert state["x"] == "aaa"


def test_the_same_program_on_a_batch_of_its_own_seeds_agrees_with_single_runs(engine):
    item = {"check": lambda text: sum(text.encode()) % 2 == 0, "retries": 30, "max_tokens": 4}
    batch = program.run_batch([(item,)] * 4, backend=engine, seed=100)
    single = [says(engine, **item, seed=100 + i) for i in range(4)]
    assert [state.text() for state in batch] == [state.text() for state in single]


def test_explain_says_what_is_checked():
    shown = program.explain({"check": len, "retries": 2})
    assert "gen 'x' max_tokens=12 checked, retries=2" in shown
