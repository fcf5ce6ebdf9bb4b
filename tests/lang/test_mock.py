import subprocess
import sys
from pathlib import Path

import pytest

import furcate as fc
from furcate.protocol.message import Cancel

pytestmark = pytest.mark.timeout(10)

SOURCE = Path(fc.__file__).parent.parent
HEAVY = ("torch", "numpy", "zmq", "tokenizers", "transformers", "xgrammar", "llguidance")


@fc.function
def twice(s, **keywords):
    s += "prompt "
    s += fc.gen("a", **keywords)
    s += fc.gen("b", **keywords)


def test_a_text_answers_everything_and_a_list_in_order():
    with fc.Mock("x") as backend:
        assert twice.run(backend=backend)["b"] == "x"
    with fc.Mock(["x", "y"]) as backend:
        state = twice.run(backend=backend)
    assert (state["a"], state["b"]) == ("x", "y")


def test_a_list_that_is_used_up_fails_the_node():
    with fc.Mock(["x"]) as backend, pytest.raises(fc.ProgramError, match="used up"):
        twice.run(backend=backend)


def test_a_function_sees_what_a_model_would():
    seen = []

    def reply(call):
        seen.append(call)
        return "R"

    with fc.Mock(reply) as backend:
        twice.run(backend=backend, temperature=0.5, seed=4)
    assert [call.text for call in seen] == ["prompt ", "prompt R"]
    assert seen[0].sampling.temperature == 0.5
    assert seen[0].seed == 4


@pytest.mark.parametrize(
    ("keywords", "text", "finish"),
    [
        ({}, "one two, three", {"type": "eos"}),
        ({"stop": ","}, "one two", {"type": "stop", "matched": ","}),
        ({"stop": ["three", "o,"]}, "one tw", {"type": "stop", "matched": "o,"}),
        ({"max_tokens": 1}, "one", {"type": "length"}),
        ({"max_tokens": 2, "stop": ","}, "one two", {"type": "stop", "matched": ","}),
    ],
)
def test_stop_strings_and_token_limits_cut(keywords, text, finish):
    with fc.Mock("one two, three") as backend:
        state = twice.run(backend=backend, sampling=keywords)
    assert state["a"] == text
    assert state.get_meta_info("a")["finish_reason"] == finish


@pytest.mark.parametrize("answer", ["none of them", 5, -1])
def test_a_select_that_is_answered_with_no_choice_fails(answer):
    program = fc.function(lambda s: s.user(fc.select("x", ["a", "b"])) and None)
    with fc.Mock(lambda call: answer) as backend, pytest.raises(fc.ProgramError):
        program.run(backend=backend)


def test_the_error_of_a_function_keeps_its_kind():
    def reply(call):
        raise fc.DeadEnd("nothing allowed")

    with fc.Mock(reply) as backend, pytest.raises(fc.ProgramError) as raised:
        twice.run(backend=backend)
    assert isinstance(raised.value.cause, fc.DeadEnd)


def test_a_reply_may_run_a_program_on_the_same_mock():
    @fc.function
    def judge(s):
        s += "judge " + fc.gen("verdict")

    def reply(call):
        if call.text.startswith("judge"):
            return "good"
        return judge.run(backend=backend)["verdict"]

    with fc.Mock(reply) as backend:
        assert twice.run(backend=backend)["a"] == "good"


def test_a_closed_mock_runs_nothing():
    backend = fc.Mock("x")
    backend.close()
    with pytest.raises(fc.UsageError, match="closed"):
        twice.run(backend=backend)


@pytest.mark.parametrize("replies", [5, None, ["a", 1]])
def test_replies_that_are_no_texts_are_refused_at_once(replies):
    with pytest.raises(fc.UsageError, match="a list of strings") as raised:
        fc.Mock(replies)
    assert repr(replies) in str(raised.value)


def order_of_calls(body):
    """What a mock was asked for, in order, by the last word before it."""
    asked = []

    def reply(call):
        asked.append(f"{call.text.split()[-1]}{call.sample or ''}")
        return "R "

    with fc.Mock(reply) as backend:
        fc.function(body).run(backend=backend)
    return asked


def test_replies_are_asked_for_in_the_order_of_recording():
    def by_rounds(s):
        s += "p "
        forks = s.fork(3)
        for index, f in enumerate(forks):
            f += f"{index} "
        forks += fc.gen("a") + "again "
        forks += fc.gen("b")

    def one_by_one(s):
        s += "p "
        for index, f in enumerate(s.fork(3)):
            f += f"{index} " + fc.gen("a") + "again " + fc.gen("b")

    assert order_of_calls(by_rounds) == ["0", "1", "2", "again", "again", "again"]
    assert order_of_calls(one_by_one) == ["0", "again", "1", "again", "2", "again"]


def test_samples_come_in_their_order_and_before_what_follows_them():
    def body(s):
        s += "p " + fc.gen("a", n=3) + "then " + fc.gen("b")

    assert order_of_calls(body) == ["p", "p1", "p2", "then"]


def test_a_branch_that_waits_for_another_is_asked_for_when_it_may_go_on():
    def body(s):
        s += "p "
        one, other = s.fork(2)
        one += "one " + fc.gen("x")
        other += one.ref("x")
        other += "late " + fc.gen("y")
        other += fc.gen("z")

    assert order_of_calls(body) == ["one", "late", "R"]


def test_every_reply_of_a_large_batch_may_run_a_program_of_its_own():
    @fc.function
    def judge(s, text):
        s += "judge " + text + fc.gen("verdict")

    def reply(call):
        if call.text.startswith("judge"):
            return call.text[-1]
        return judge.run(call.text, backend=backend)["verdict"]

    @fc.function
    def program(s, number):
        s += f"{number}" + fc.gen("a")

    with fc.Mock(reply) as backend:
        states = program.run_batch([(i,) for i in range(300)], backend=backend)
    assert [state["a"] for state in states] == [str(i)[-1] for i in range(300)]


def test_a_reply_may_end_the_program_it_is_for():
    def reply(call):
        backend._channel.send([Cancel(0)])
        return "too late"

    with fc.Mock(reply) as backend, pytest.raises(fc.ProgramError, match="cancelled"):
        twice.run(backend=backend)


def test_a_prompt_may_be_empty():
    @fc.function
    def program(s):
        s += fc.gen("a")

    with fc.Mock(lambda call: repr(call.text)) as backend:
        assert program.run(backend=backend)["a"] == "''"


def test_a_mock_takes_any_control_token():
    def body(s):
        s += fc.special("<|what_is_this|>") + fc.gen("a")
        return s.text()

    seen = []
    with fc.Mock(lambda call: seen.append(call.text) or "R") as backend:
        assert fc.function(body).run(backend=backend).ret_value == "<|what_is_this|>R"
    assert seen == ["<|what_is_this|>"]


def test_a_mock_forgets_programs_that_nobody_holds():
    with fc.Mock("R") as backend:
        for _ in range(3):
            twice.run(backend=backend)
        backend.release(range(3))
        runtime = backend._channel._runtime
        assert len(runtime._sites) == 0
        assert runtime._front.num_streams == 0
        runtime._front.check()


def test_a_mock_needs_no_heavy_package():
    code = (
        "import sys, furcate as fc\n"
        "fc.function(lambda s: s.user(fc.gen('a')) and None).run(backend=fc.Mock('R'))\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SOURCE
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"regex": r"(a)\1"}, "regex"),
        ({"json_schema": {"type": "strin"}}, "strin"),
        ({"json_schema": {"not": {"type": "string"}}}, "'not' at '/not'"),
    ],
)
def test_a_constraint_that_no_engine_takes_is_refused(shape, words):
    @fc.function
    def shaped(s):
        s += fc.gen("x", **shape)

    with pytest.raises(fc.ProgramError, match=words) as told:
        shaped.run(backend=fc.Mock("aa"))
    assert isinstance(told.value.__cause__, fc.ConstraintError)
    assert "test_mock.py" in told.value.location
