"""Groups in the bodies of loops: each run forks and chooses anew."""

from __future__ import annotations

import pytest
from tests.fakes.groups import in_brackets, numbered, run
from tests.fakes.in_process import context_session

import furcate as fc


def best_of_two(s, words):
    group = s.fork(2)
    group += lambda index: f"[{words[index]}]" + fc.gen("x")
    (best,) = group.best("x")
    best += "[9]" + fc.gen("y")
    s += best.ref("x") + best.ref("y") + "."


@pytest.mark.parametrize("in_graph", [True, False])
def test_an_election_in_a_loop_is_held_anew_each_time(in_graph):
    @fc.function
    def program(s):
        if in_graph:
            s.loop(lambda s: best_of_two(s, "13"), max_iters=3)
        else:
            for _ in range(3):
                best_of_two(s, "13")

    with fc.Mock(in_brackets) as backend:
        assert program.run(backend=backend).text() == "39." * 3


@pytest.mark.slow
def test_an_election_in_a_loop_says_what_it_says_in_python():
    def turn(s):
        group = s.fork(3)
        group += fc.gen("x", max_tokens=3, ignore_eos=True)
        group += fc.select("score", ["1", "2", "3"], temperature=1.0)
        best = group.best("score", keep=2)
        best += "!" + fc.gen("y", max_tokens=3, ignore_eos=True)
        s += fc.join(",", best.refs("y")) + best.vote("x")

    @fc.function
    def looped(s):
        s += "go"
        s.loop(turn, max_iters=3)

    @fc.function
    def unrolled(s):
        s += "go"
        for _ in range(3):
            turn(s)
            s.text()

    with context_session(num_pages=512) as backend:
        texts = [each.run(backend=backend, seed=4).text() for each in (looped, unrolled)]
    assert texts[0] == texts[1]
    assert len(texts[0]) > 20


def test_what_a_body_chooses_from_must_be_its_own():
    def body(s):
        group = numbered(s, "12")
        s.loop(lambda s: group.best("x") and None, max_iters=2)

    with pytest.raises(fc.UsageError, match=r"inside the body of s\.loop"):
        run(body, in_brackets)


def test_a_state_that_was_chosen_can_loop():
    def body(s):
        (best,) = numbered(s, "12").best("x")

        def turn(s):
            s += s.ref("x") + "[3]" + fc.gen("x")

        best.loop(turn, max_iters=2)
        return best.text(), best["x"]

    assert run(body, in_brackets).ret_value == ("[2]22[3]33[3]3", "3")


def test_explain_goes_on_from_the_first_candidates():
    @fc.function
    def program(s):
        best = numbered(s, "12").best("x", keep=2)
        s += "y" if best[1]["x"] else "n"

    shown = program.explain()
    assert "go on from the best of [1, 2]" in shown
    assert "waits for best" in shown
    assert "stopped" not in shown


def test_a_session_keeps_what_the_chosen_one_has():
    @fc.function
    def first(s):
        group = numbered(s, "12")
        for child in group:
            child["word"] = child.item or "w"
            child += fc.select("y", ["no", "yes"])
        (best,) = group.best("x")
        best.save("kept")

    @fc.function
    def then(s):
        return s["x"], s["word"], s["y"], s.text()

    with fc.Mock(lambda call: "yes" if call.choices else in_brackets(call)) as backend:
        first.run(backend=backend)
        state = then.open(session="kept").run(backend=backend)
        assert state.ret_value == ("2", "w", "yes", "[2]2yes")


def test_a_chosen_state_is_listened_to_while_it_goes_on():
    with context_session(num_pages=512) as backend:

        @fc.function
        def program(s):
            group = s.fork(2)
            group += "go" + fc.gen("x", max_tokens=6, ignore_eos=True)
            group += fc.select("score", ["1", "2"], temperature=1.0)
            (best,) = group.best("score")
            best += fc.gen("y", max_tokens=6, ignore_eos=True)
            s += best.ref("y")
            kept.append(best)

        kept = []
        state = program.run(backend=backend, stream=True, seed=1)
        events = list(state.events())
        (best,) = kept
        assert "".join(best.text_iter("x")) == best["x"]
        assert "".join(e.delta for e in events if e.var == "y") == best["y"]
        assert "".join(best.text_iter()) == "go" + best["x"] + best["score"] + best["y"]
        assert state.text() == best["y"]


def test_samples_of_a_group_are_those_of_its_states():
    def body(s):
        group = s.fork(2)
        group += lambda index: f"{index}" + fc.gen("x", n=2)
        return group.samples("x")

    reply = lambda call: f"{call.text}.{call.sample}"  # noqa: E731
    assert run(body, reply).ret_value == [["0.0", "0.1"], ["1.0", "1.1"]]
