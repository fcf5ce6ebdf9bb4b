"""`s.score(text)`: how likely the text is as what comes next."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import furcate as fc

PROMPT = "it was "


@pytest.fixture(scope="module")
def engine():
    with fc.Engine("test:context") as backend:
        yield backend


@fc.function
def scores(s, prompt, text):
    s += prompt
    score = s.score(text)
    return score.logprob, score.mean, score.token_logprobs


@fc.function
def reads(s, prompt, text):
    """The same numbers from another side: what the model gives to a prompt that has the text."""
    s += prompt + text
    s += fc.gen("x", max_tokens=0, return_logprob=True, logprob_start_len=len(prompt.encode()))


def oracle(engine, prompt: str, text: str) -> list[float]:
    info = reads.run(prompt, text, backend=engine).get_meta_info("x")
    return [float(logprob) for logprob, _, _ in info["input_token_logprobs"]]


@settings(max_examples=20, deadline=None)
@given(prompt=st.text("ab é\n", min_size=1, max_size=8), text=st.text("xy é", min_size=1))
def test_a_score_is_the_sum_of_what_a_prompt_would_have(engine, prompt, text):
    expected = oracle(engine, prompt, text)
    logprob, mean, tokens = scores.run(prompt, text, backend=engine).ret_value
    assert logprob == pytest.approx(math.fsum(expected))
    assert mean == pytest.approx(math.fsum(expected) / len(expected))
    assert [entry[0] for entry in tokens] == pytest.approx(expected)
    assert [entry[1] for entry in tokens] == list(text.encode())


def test_a_score_leaves_its_state_as_it_is(engine):
    def body(s, asks):
        s += PROMPT
        with s.assistant():
            if asks:
                s.score("this")
            s += fc.gen("x", max_tokens=5, temperature=1.0)
            if asks:
                s.score("that")
        s += fc.gen("y", max_tokens=5)

    program = fc.function(body)
    asked, plain = (program.run(asks, backend=engine, seed=2) for asks in (True, False))
    assert asked.text() == plain.text()
    assert asked.messages() == plain.messages()
    assert asked["y"] == plain["y"]


def test_a_score_is_a_value_that_waits_for_nothing(engine):
    def body(s):
        s += PROMPT
        s += fc.gen("x", max_tokens=3)
        score = s.score("good", "how good")
        s += "! " + s.ref("x")
        return score

    state = fc.function(body).run(backend=engine, seed=2)
    assert isinstance(state.ret_value, float)
    assert state["how good"] == state.ret_value == float(state.ref("how good"))
    assert state.ret_value < 0


def test_scores_are_compared_by_their_numbers(engine):
    def body(s):
        s += PROMPT
        texts = ["a", "it", "long text"]
        by_score = sorted(texts, key=s.score)
        numbers = {text: float(s.score(text)) for text in texts}
        assert by_score == sorted(texts, key=numbers.__getitem__)
        return max(s.score(text) for text in texts) >= s.score("a") > -1000.0

    assert fc.function(body).run(backend=engine).ret_value is True


def test_the_text_may_be_a_value_that_is_still_to_come(engine):
    def body(s):
        s += PROMPT
        other = s.fork(1)[0]
        other += fc.gen("x", max_tokens=4, ignore_eos=True)
        return [s.score(other.ref("x")), s.score(other["x"])]

    first, second = fc.function(body).run(backend=engine, seed=2).ret_value
    assert first == second


def test_a_score_continues_what_was_generated(engine):
    """After its own greedy output the model finds its next token the likeliest of all."""

    def body(s):
        s += PROMPT + fc.gen("x", max_tokens=3, temperature=0)
        likeliest = s.score("a")
        probe = s.fork(1)[0]
        probe += fc.gen("next", max_tokens=1, temperature=0, ignore_eos=True)
        return [s.score(probe.ref("next")), likeliest]

    best, other = fc.function(body).run(backend=engine, seed=2).ret_value
    assert best >= other


def test_in_an_open_turn_the_text_is_what_the_model_would_say(engine):
    def turn(s):
        s += fc.user("hi")
        with s.assistant():
            return s.score("yes")

    spelled = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"

    def by_hand(s):
        for piece in ("<|im_start|>", "user\nhi", "<|im_end|>", "\n", "<|im_start|>"):
            s += fc.special(piece) if piece.startswith("<") else piece
        s += "assistant\n"
        assert s.text() == spelled
        return s.score("yes")

    values = [fc.function(body).run(backend=engine).ret_value for body in (turn, by_hand)]
    assert values[0] == values[1]


def test_a_score_that_cannot_be_fails_alone(engine):
    def body(s):
        s += PROMPT + fc.gen("x", max_tokens=0)
        score = s.score(s.ref("x"))
        s += fc.gen("y", max_tokens=3)
        with pytest.raises(fc.ProgramError, match="empty text"):
            score.get()
        return s["y"]

    assert fc.function(body).run(backend=engine, seed=2).ret_value


def test_a_score_with_nothing_before_it_is_an_error(engine):
    def body(s):
        return s.score("yes")

    with pytest.raises(fc.ProgramError, match="nothing comes before"):
        fc.function(body).run(backend=engine)


@pytest.mark.parametrize("text", ["", None, 3, ["a"], "\ud800"])
def test_what_is_no_text_is_refused_where_it_is_asked(engine, text):
    with pytest.raises(fc.UsageError):
        scores.run(PROMPT, text, backend=engine)


def test_a_list_of_samples_is_no_text(engine):
    def body(s):
        s += PROMPT + fc.gen("x", max_tokens=2, n=2)
        s.score(s.ref("x"))

    with pytest.raises(fc.UsageError, match="is a list"):
        fc.function(body).run(backend=engine)


def test_what_scores_share_is_computed_once():
    def body(s):
        s += "a long beginning. " * 20
        return [s.score(text) for text in ("one", "two", "three", "four")]

    with fc.Engine("test:context") as backend:
        usage = fc.function(body).run(backend=backend).usage
    assert usage.computed <= len("a long beginning. ") * 20 + len("onetwothreefour")


def test_a_batch_gives_what_single_runs_give(engine):
    def body(s, prompt, text):
        s += prompt
        with s.var_scope("all"):
            s += fc.gen("x", 8, ignore_eos=True, stop_regex="[a-z]", save_stop="end")
            score = s.score(text)
        s += s.ref("end")
        return score, s["end"], s["all"]

    program = fc.function(body)
    items = [(f"{number} was ", "ab" * number) for number in range(1, 7)]
    together = program.run_batch(items, backend=engine, seed=3)
    alone = [program.run(*item, backend=engine, seed=3 + i) for i, item in enumerate(items)]
    assert [state.ret_value for state in together] == [state.ret_value for state in alone]
    assert [state.text() for state in together] == [state.text() for state in alone]


def test_explain_shows_scores_and_scopes_and_goes_on_with_a_number():
    def body(s):
        s += PROMPT
        with s.var_scope("all"):
            if s.score("good", "how") <= 0:
                s += "fine"
        s.score(s.ref("all"))

    lines = [line.split("  ")[-1] for line in fc.function(body).explain().splitlines()]
    assert lines[1:7] == [
        "[0] text 'it was '",
        "[0] var_scope 'all' begin",
        "[0] value 1 = score 'how' of 'good'",
        "[0] text 'fine'",
        "[0] value 0 = var_scope 'all' end",
        "[0] value 2 = score of value 0",
    ]


@pytest.mark.parametrize(
    "keywords", [{}, {"temperature": 0.5}, {"temperature": 0}, {"top_k": 3}, {"min_p": 0.5}]
)
def test_a_score_is_the_sum_of_what_the_output_had_whatever_drew_it(engine, keywords):
    def body(s):
        s += PROMPT
        with s.copy() as c:
            c += fc.gen("x", 5, ignore_eos=True, return_logprob=True, **keywords)
            drawn = c.get_meta_info("x")["output_token_logprobs"]
        return float(s.score(c["x"])), math.fsum(logprob for logprob, _, _ in drawn)

    score, expected = fc.function(body).run(backend=engine, seed=4).ret_value
    assert score == pytest.approx(expected)


def test_mock_scores_too():
    with fc.Mock("x") as backend:
        logprob, _, tokens = scores.run(PROMPT, "so good", backend=backend).ret_value
    assert logprob < 0
    assert len(tokens) == 2
