"""What ends an output, and the texts of an n above 1, through the language."""

from __future__ import annotations

import re

import pytest

import furcate as fc

PATTERN = r"[A-Z]\W?"


@pytest.fixture(scope="module")
def engine():
    with fc.Engine("test:context") as backend:
        yield backend


@fc.function
def appends(s, expr):
    s += "it was " + expr


def test_a_pattern_ends_the_output_and_the_rest_is_told(engine):
    free = appends.run(fc.gen("x", 60, ignore_eos=True), backend=engine, seed=3)["x"]
    found = re.search(r"[A-Z]", free)
    assert found is not None
    state = appends.run(
        fc.gen("x", 60, ignore_eos=True, stop_regex=PATTERN, save_stop="end"),
        backend=engine,
        seed=3,
    )
    assert state["x"] == free[: found.start()]
    assert state["end"] == found.group()
    assert state.get_meta_info("x")["finish_reason"] == {"type": "stop", "matched": found.group()}
    assert state.text() == "it was " + state["x"]


def test_patterns_of_the_run_count_where_the_call_has_none(engine):
    expr = fc.gen("a", 40, ignore_eos=True) + "|" + fc.gen("b", 5, stop_regex=[], ignore_eos=True)
    state = appends.run(expr, backend=engine, seed=3, stop_regex=[PATTERN, "never"])
    assert state.get_meta_info("a")["finish_reason"]["type"] == "stop"
    assert len(state["b"]) == 5


def test_what_ended_an_output_can_be_appended_without_waiting(engine):
    @fc.function
    def body(s):
        s += "it was " + fc.gen("x", 60, ignore_eos=True, stop_regex=PATTERN, save_stop="end")
        s += s.ref("end")
        s += fc.gen("y", 3)
        return fc.join("", [s.ref("x"), s.ref("end")])

    state = body.run(backend=engine, seed=3)
    assert state.text() == "it was " + state.ret_value + state["y"]


@pytest.mark.parametrize(
    ("reply", "keywords", "stop"),
    [
        ("one. two", {"stop": ".", "max_tokens": 9}, "."),
        ("one. two", {"stop_regex": r"\W", "max_tokens": 9}, "."),
        ("one two", {"max_tokens": 1}, ""),
        ("one two", {"max_tokens": 9}, ""),
    ],
)
def test_save_stop_is_what_ended_the_output_or_nothing(reply, keywords, stop):
    with fc.Mock(reply) as backend:
        state = appends.run(fc.gen("x", save_stop="end", **keywords), backend=backend)
    assert state["end"] == stop


def test_save_stop_is_a_list_beside_a_list(engine):
    expr = fc.gen("x", 40, n=3, ignore_eos=True, stop_regex=PATTERN, save_stop="end")
    state = appends.run(expr, backend=engine, seed=3)
    assert len(state["end"]) == len(state["x"]) == 3
    assert all(re.fullmatch(PATTERN, stop) for stop in state["end"] if stop)


def test_save_stop_of_a_failed_output_has_failed_too(engine):
    @fc.function
    def body(s):
        s += "a"
        s += fc.gen("x", regex=r"a(?=b)", save_stop="end")
        with pytest.raises(fc.ProgramError, match="gen 'x'") as raised:
            s["end"]
        return raised.value

    (state,) = body.run_batch([{}], backend=engine, on_error="return")
    assert isinstance(state.ret_value.cause, fc.UpstreamFailed)
    assert not state.ok


@pytest.mark.parametrize(
    "make",
    [
        lambda: fc.gen("x", save_stop="x"),
        lambda: fc.gen("x", choices=["a"], save_stop="y"),
        lambda: fc.gen("x", save_stop=""),
    ],
)
def test_save_stop_that_can_mean_nothing_is_an_error(make):
    with pytest.raises(fc.UsageError, match="save_stop"):
        make()


@pytest.mark.parametrize("pattern", ["a(", "^a", r"\bEND\b", "(?=a)", "a*", ""])
@pytest.mark.parametrize("place", ["gen", "run"])
def test_a_pattern_that_cannot_be_used_is_refused_where_it_is_given(engine, pattern, place):
    call, run = (["fine", pattern], None) if place == "gen" else (None, pattern)
    with pytest.raises(fc.ConstraintError, match="stop_regex") as raised:
        appends.run(fc.gen("x", stop_regex=call), backend=engine, stop_regex=run)
    assert repr(pattern) in str(raised.value)


# Samples -----------------------------------------------------------------------------------------


def test_samples_are_all_texts_and_the_text_goes_on_with_the_first(engine):
    state = appends.run(fc.gen("x", 4, n=3) + "|" + fc.gen("y", 4), backend=engine, seed=1)
    assert state["x"] == state.samples("x")
    assert len(set(state.samples("x"))) == 3
    assert state.text() == "it was " + state["x"][0] + "|" + state["y"]
    assert state.samples("y") == [state["y"]]


def test_samples_of_a_type_are_values_of_it():
    with fc.Mock(lambda call: str(call.sample + 4)) as backend:
        state = appends.run(fc.gen("x", n=3, type=int), backend=backend)
        assert state.samples("x") == state["x"] == [4, 5, 6]


def test_each_sample_streams_under_its_number_and_the_variable_with_the_first(engine):
    expr = fc.gen("x", 6, n=3, ignore_eos=True)
    state = appends.run(expr, backend=engine, seed=1, stream=True)
    assert "".join(state.text_iter("x")) == state["x"][0]
    assert "".join(state.text_iter()) == "it was " + state["x"][0]
    texts = ["", "", ""]
    for event in state.events():
        texts[event.sample] += event.delta
    assert texts == state["x"]


def test_samples_of_what_no_gen_has_made_is_an_error(engine):
    @fc.function
    def body(s):
        s["mine"] = 3
        s.samples("mine")

    with pytest.raises(fc.UsageError, match="'mine' is not the result"):
        body.run(backend=engine)


# Log-probabilities -------------------------------------------------------------------------------


def test_logprobs_of_prompt_and_output_are_lists_of_number_id_and_text(engine):
    expr = fc.gen(
        "x",
        3,
        ignore_eos=True,
        return_logprob=True,
        logprob_start_len=0,
        top_logprobs_num=2,
        return_text_in_logprobs=True,
    )
    state = appends.run(expr, backend=engine, seed=1)
    info = state.get_meta_info("x")
    assert "".join(str(entry[2]) for entry in info["input_token_logprobs"]) == "it was "
    assert info["input_token_logprobs"][0][0] is None
    assert "".join(str(entry[2]) for entry in info["output_token_logprobs"]) == state["x"]
    assert [len(top) for top in info["output_top_logprobs"]] == [2, 2, 2]
    assert all(logprob <= 0 for logprob, _, _ in info["output_token_logprobs"])
    assert info["prompt_tokens"] == len("it was ")
    assert info["completion_tokens"] == 3
    assert info["finish_reason"] == {"type": "length"}


def test_a_gen_of_no_tokens_reports_the_same_prompt(engine):
    wanted = {"return_logprob": True, "logprob_start_len": 2}
    state = appends.run(
        fc.gen("none", 0, **wanted) + fc.gen("x", 2, **wanted), backend=engine, seed=1
    )
    none, some = state.get_meta_info("none"), state.get_meta_info("x")
    assert state["none"] == ""
    assert none["input_token_logprobs"] == some["input_token_logprobs"]
    assert len(none["input_token_logprobs"]) == len("it was ") - 2
    assert none["output_token_logprobs"] == none["output_top_logprobs"] == []
    assert none["completion_tokens"] == 0


def test_the_prompts_list_is_empty_where_only_the_output_was_asked_for(engine):
    state = appends.run(fc.gen("x", 2, return_logprob=True), backend=engine, seed=1)
    info = state.get_meta_info("x")
    assert info["input_token_logprobs"] == info["input_top_logprobs"] == []
    silent = appends.run(fc.gen("x", 2), backend=engine)
    assert "input_token_logprobs" not in silent.get_meta_info("x")
