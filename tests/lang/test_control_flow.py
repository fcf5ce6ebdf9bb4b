"""Loops and switches that the runtime decides: what they do, and what comes out of them."""

from __future__ import annotations

import pytest
from tests.fakes.mock_runs import counting, line_of

import furcate as fc


def test_a_loop_runs_its_body_so_often_and_calls_it_once(run):
    calls = []

    def body(s):
        def turn(s):
            calls.append(1)
            s += fc.gen("x") + ";"

        s.loop(turn, max_iters=3)
        s += "end"

    assert run(body).text() == "r1;r2;r3;end"
    assert calls == [1]


def test_a_loop_with_a_switch_is_one_message(run):
    @fc.function(graph="require")
    def program(s):
        def turn(s):
            s += fc.gen("x")
            s.switch("x", {"r2": fc.stop_loop, fc.default: ", "})

        s.loop(turn, max_iters=9)
        return s.ref("x")

    with fc.Mock(counting()) as backend:
        state = program.run(backend=backend)
        assert backend.num_messages == 1
        assert (state.text(), state.ret_value) == ("r1, r2", "r2")


@pytest.mark.parametrize(
    "condition",
    [
        lambda s: s.ref("x").eq("r2"),
        lambda s: s.ref("x").regex(r"\d").ge(2),
        lambda s: s.ref("x").contains("2") & ~s.ref("x").eq("r1"),
    ],
)
def test_a_loop_ends_after_the_run_in_which_its_condition_holds(run, condition):
    def returned(s):
        s.loop(lambda s: s.__iadd__(fc.gen("x")) and condition(s), max_iters=9)

    def given(s):
        s.loop(fc.gen("x") + "", until=condition, max_iters=9)

    assert run(returned).text() == run(given).text() == "r1r2"


def test_a_variable_means_what_the_run_before_has_made_of_it(run):
    def body(s):
        s["best"] = "none"

        def turn(s, index):
            s += "[" + index + ":" + s.ref("best") + "]"
            s += fc.gen("x")
            s["best"] = s.ref("x").upper()

        s.loop(turn, max_iters=3)
        s += " " + s.ref("best")

    state = run(body)
    assert state.text() == "[0:none]r1[1:R1]r2[2:R2]r3 R3"
    assert (state["best"], state["x"]) == ("R3", "r3")


def test_what_only_some_runs_set_stays_what_it_was(run):
    def body(s):
        def turn(s, index):
            s.switch(index, {1: lambda s: s.set_var("seen", index), fc.default: "."})
            s += "|"

        s.loop(turn, max_iters=3)

    assert run(body)["seen"] == 1


def test_loops_in_loops_carry_their_variables_through(run):
    def body(s):
        s += fc.gen("x")

        def outer(s):
            s.loop(lambda s: s.set_var("x", s.ref("x").replace("r", "rr")), max_iters=2)
            s += " " + s.ref("x")

        s.loop(outer, max_iters=2)

    assert run(body).text() == "r1 rrrr1 rrrrrrrrrrrrrrrr1".replace("rrrrrrrr" * 2, "r" * 16)


def test_each_takes_lists_and_refs_of_lists(run):
    def body(s):
        s += fc.gen("list")
        s.each(s.ref("list"), lambda s, item, index: s.__iadd__(index + "=" + item + ";"))
        s.each(["x", 3, s.ref("list")[0]], lambda s, item: s.__iadd__("(" + item + ")"))
        s.each([], lambda s: s.__iadd__("never"))

    assert run(body, '["a", "b"]').text() == '["a", "b"]0=a;1=b;(x)(3)(a)'


def test_of_a_loop_without_a_run_a_variable_is_what_it_was(run):
    def body(s):
        s["x"] = "before"

        def take(s, item):
            s["x"], s["y"] = item, item

        s.each([], take)
        s += s.ref("x")

    state = run(body)
    assert state["x"] == "before"
    with pytest.raises(fc.ProgramError, match=r"'y' of s.each.*nothing that was run has set it"):
        state["y"]


def test_bodies_fork_and_join(run):
    def body(s):
        def turn(s):
            group = s.fork(2)
            group += fc.gen("leaf")
            group.join()
            s += fc.join("+", group.refs("leaf")) + ";"

        s.loop(turn, max_iters=2)

    state = run(body)
    assert state.text() == "r1+r2;r3+r4;"
    assert state["leaf"] == ["r3", "r4"]


def test_bodies_use_roles_and_messages_know_them(run):
    def body(s):
        s += fc.user("hi")

        def turn(s):
            s += fc.assistant(fc.gen("x"))
            with s.user():
                s += "more"

        s.loop(turn, max_iters=2)

    assert [(m["role"], m["content"]) for m in run(body).messages()] == [
        ("user", "hi"),
        ("assistant", "r1"),
        ("user", "more"),
        ("assistant", "r2"),
        ("user", "more"),
    ]


def test_a_loop_of_calls_calls_each_time(run):
    seen = []

    def body(s):
        def turn(s, index):
            s += fc.gen("x") + "="
            s += s.call(lambda x, i: seen.append((x, i)) or f"<{x}>", s.ref("x"), index)

        s.loop(turn, max_iters=2)

    assert run(body).text() == "r1=<r1>r2=<r2>"
    assert seen == [("r1", 0), ("r2", 1)]


# Switches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "text"), [("a", "A"), ("2", "number"), ("true", "bool"), ("else", "else-default")]
)
def test_a_switch_runs_the_case_that_is_equal(run, reply, text):
    def body(s):
        s += fc.gen("x")
        s.switch(
            "x",
            {
                "a": lambda s: s.__iadd__("A"),
                2: "number",
                True: "bool",
                fc.default: lambda s: s.__iadd__(s.ref("x") + "-default"),
            },
        )

    assert run(body, reply).text() == reply + text


def test_a_switch_without_a_case_for_the_value_fails_by_name(run):
    def body(s):
        s += fc.gen("x")
        s.switch("x", {"a": "A", "b": "B"})
        s += fc.gen("y")

    with pytest.raises(fc.ProgramError, match="no case of the switch is equal to 'c'") as raised:
        run(body, "c")
    assert raised.value.location.endswith(line_of(body, 2))


def test_after_a_switch_a_variable_is_what_the_case_has_set_or_what_it_was(run):
    def body(s):
        s += fc.select("way", ["left", "right"])
        s["a"] = "old"

        def left(s):
            s += fc.gen("b", type=int)

        def right(s):
            s += fc.gen("a") + fc.select("b", ["2", "3"])

        s.switch("way", {"left": left, "right": right})

    def reply(way):
        return lambda call: way if "left" in (call.choices or ()) else (1 if call.choices else "7")

    left, right = run(body, reply(0)), run(body, reply(1))
    assert (left["a"], left["b"]) == ("old", 7)
    assert (right["a"], right["b"]) == ("7", "3")


def test_reading_what_no_case_has_set_fails_and_says_so(run):
    def body(s):
        s += fc.gen("x")
        s.switch("x", {"a": fc.gen("y"), fc.default: "."})

    state = run(body, "b")
    with pytest.raises(fc.ProgramError, match=r"'y' of s.switch.*nothing that was run has set it"):
        state["y"]
    assert "y" in state

    def uses(s):
        body(s)
        s += s.ref("y")

    with pytest.raises(fc.ProgramError, match=r"fill 'y'|fill y"):
        run(uses, "b")


def test_an_election_in_a_loop_gives_what_the_run_before_has_made(run):
    def body(s):
        s += fc.gen("x") + " "

        def turn(s):
            group = s.fork(2)
            group[1].set_var("x", s.ref("x").replace("r", "rr"))
            group += fc.gen("key")
            best = group.best(lambda child: child.ref("key").regex(r"\d+"))[0]
            s["x"] = best.ref("x")
            s += s.ref("x") + " "

        s.loop(turn, max_iters=2)

    assert run(body).text() == "r1 rr1 rrrr1 "
