"""Stops, scopes and scores inside loops, switches, elections and checks."""

from __future__ import annotations

import re

import pytest

import furcate as fc

DIGIT = r"\d"


@pytest.fixture(scope="module")
def engine():
    with fc.Engine("test:context") as backend:
        yield backend


def run(body, backend, **keywords):
    return fc.function(body).run(backend=backend, seed=1, **keywords)


def words():
    return fc.gen("x", max_tokens=20, ignore_eos=True, stop_regex=DIGIT, save_stop="end")


def test_of_a_loop_the_last_run_counts(engine):
    def body(s):
        s += "it was "

        def turn(s):
            with s.var_scope("turn"):
                s += "|" + words()
            s.score("good", "good")

        s.loop(turn, max_iters=3)
        s += "!"
        return s["turn"], s["x"], s["end"], s["good"]

    state = run(body, engine)
    turn, x, end, good = state.ret_value
    assert turn == "|" + x
    assert state.text().count("|") >= 3
    assert state.text().endswith(turn + "!")
    assert end == "" or re.fullmatch(DIGIT, end)
    assert good < 0


def test_a_loop_may_go_on_until_an_output_was_ended_by_a_certain_text(engine):
    def turn(s):
        s += words() + " "

    def body(s):
        s += "it was "
        s.loop(turn, until=lambda s: s.ref("end").eq("4"), max_iters=30)
        return s["end"]

    assert run(body, engine).ret_value == "4"


def test_a_switch_has_scopes_and_scores_of_its_own(engine):
    def body(s):
        s += "it was " + fc.select("kind", ["a", "b"])

        def case(s):
            with s.var_scope("said"):
                s += " so " + fc.gen("x", max_tokens=3)
            s.score("good", "good")

        s.switch("kind", {"a": case, "b": case})
        return s["said"], s["x"], s["good"]

    state = run(body, engine)
    said, x, good = state.ret_value
    assert said == " so " + x
    assert state.text().endswith(said)
    assert isinstance(good, float)


def test_the_best_branch_may_be_the_one_with_the_best_score(engine):
    def body(s):
        s += "it was "
        group = s.fork(4)
        group += fc.gen("x", max_tokens=4)
        for child in group:
            child.score("good", "good")
        best = group.best("good")
        return best["x"], [(child["good"], child["x"]) for child in group]

    chosen, known = run(body, engine).ret_value
    assert chosen == [max(known)[1]]


def test_what_ended_an_output_is_that_of_the_one_that_was_accepted(engine):
    def body(s):
        s += "it was "
        with s.var_scope("said"):
            s += fc.gen(
                "x",
                max_tokens=30,
                ignore_eos=True,
                stop_regex="[A-Z]",
                save_stop="end",
                check=lambda text: len(text) > 4,
                retries=40,
            )
        return s["x"], s["end"], s["said"]

    state = run(body, engine)
    x, end, said = state.ret_value
    assert len(x) > 4
    assert said == x
    assert state.get_meta_info("x")["finish_reason"] == {"type": "stop", "matched": end}
