import pytest

import furcate as fc

pytestmark = pytest.mark.timeout(10)


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
