"""Control flow that streams, fails, is limited, or runs on a model."""

from __future__ import annotations

import pytest
from tests.fakes.in_process import context_session
from tests.fakes.mock_runs import counting, line_of

import furcate as fc


def test_a_program_that_streams_shows_what_each_run_generates(run):
    def body(s):
        s += "begin "
        s.loop(fc.gen("x") + ",", max_iters=3)
        s += fc.gen("y")

    with fc.Mock(counting()) as backend:
        state = fc.function(body).run(backend=backend, stream=True)
        assert [(e.var, e.delta) for e in state.events()] == [
            ("x", "r1"), ("x", "r2"), ("x", "r3"), ("y", "r4")
        ]  # fmt: skip
        assert list(state.text_iter()) == ["begin ", "r1", "r2", "r3", "r4"]
        quiet = fc.function(body).run(backend=backend)
        with pytest.raises(fc.UsageError, match="stream=True"):
            list(quiet.text_iter())


def test_a_failure_in_a_body_names_its_own_node_and_line(run):
    def body(s):
        def turn(s):
            s += fc.gen("x")
            s += fc.gen("y")

        s.loop(turn, max_iters=5)
        s += fc.gen("z")

    def reply(call):
        if call.text == "rrr":
            raise RuntimeError("broken")
        return "r"

    with pytest.raises(fc.ProgramError, match=r"gen 'y'.*broken") as raised:
        run(body, reply)
    assert raised.value.location.endswith(line_of(body, 3))
    with pytest.raises(fc.ProgramError):
        raised.value.state["x"]


def test_a_body_that_fails_only_in_a_branch_of_its_own_goes_on(run):
    def body(s):
        def turn(s):
            with s.copy() as c:
                c += "bad " + fc.gen("bad")
            s += fc.gen("x")

        s.loop(turn, max_iters=2)

    def reply(call):
        if call.text.endswith("bad "):
            raise RuntimeError("broken")
        return "r"

    assert run(body, reply).text() == "rr"


def test_too_many_runs_are_refused_by_name(run):
    def body(s):
        s.loop(lambda s: s.loop(".", max_iters=1000), max_iters=1000)

    with pytest.raises(fc.ProgramError, match="may run 20000 nodes"):
        run(body)

    def deep(s, depth=30):
        if depth:
            s.loop(lambda s: deep(s, depth - 1), max_iters=1)

    with pytest.raises(fc.ProgramError, match="regions may be 16 deep"):
        run(lambda s: deep(s))

    def wide(s):
        s["items"] = str(list(range(300)))
        group = s.fork(over=s.ref("items"))
        group += "."

    with pytest.raises(fc.ProgramError, match="may fork off 256 branches"):
        run(wide)


def test_a_batch_of_loops_is_the_loops_one_by_one(run):
    @fc.function
    def program(s, word):
        s += word
        s.loop(fc.gen("x", max_tokens=3, ignore_eos=True) + " ", max_iters=3)
        group = s.fork(over=s.ref("list") if "list" in s else _letters(s))
        group += fc.gen("leaf", max_tokens=2, ignore_eos=True)
        group.join()

    with context_session() as backend:
        items = [{"word": f"word {i}"} for i in range(6)]
        together = program.run_batch(items, backend=backend, seed=3)
        for index, item in enumerate(items):
            alone = program.run(**item, backend=backend, seed=3 + index)
            assert alone.text() == together[index].text()
            assert alone["leaf"] == together[index]["leaf"]


def _letters(s):
    s["list"] = '["a", "b"]'
    return s.ref("list")


def test_explain_shows_bodies_and_what_is_shared():
    @fc.function
    def program(s):
        s += "prefix"
        s.loop(lambda s: s.switch(s.ref("w"), {"a": fc.stop_loop, fc.default: "."}), max_iters=4)

    @fc.function
    def whole(s):
        s += fc.gen("w")
        program._body(s)
        s.fork(3)

    text = whole.explain()
    for part in (
        "loop at most 4 times",
        "case 'a':",
        "default:",
        "stop_loop",
        "text: 7 characters",
        "7 characters by 3 branches",
        "force points: none",
    ):
        assert part in text


def test_what_is_saved_in_a_loop_is_what_the_run_has(run):
    @fc.function
    def program(s):
        s["x"] = "before"

        def turn(s):
            s += "[" + fc.select("way", ["left"]) + "]"
            s.save("latest")
            s["x"] = s.ref("x").upper()

        s.loop(turn, max_iters=2)

    @fc.function
    def reads(s):
        return s["x"], s["way"], s.text()

    with fc.Mock("r") as backend:
        program.run(backend=backend)
        again = reads.open(session="latest").run(backend=backend)
        assert again.ret_value == ("BEFORE", "left", "[left][left]")


def test_constraints_types_scores_and_meta_data_hold_inside_and_come_out(run):
    @fc.function
    def program(s):
        s += "begin "

        def turn(s):
            s += fc.gen("n", type=bool, max_tokens=8)
            s += " is " + fc.select("size", ["big", "small"], scores=True)
            s += fc.gen("pair", regex="[ab]{2}", n=2, max_tokens=8) + ";"

        s.loop(turn, max_iters=3)

    with context_session() as backend:
        state = program.run(backend=backend, seed=5)
        assert isinstance(state["n"], bool)
        assert state["size"] in ("big", "small")
        scores = state.scores("size")
        assert max(scores.normalized, key=scores.normalized.get) == state["size"]
        assert len(state["pair"]) == len(state.samples("pair")) == 2
        assert all(set(text) <= set("ab") for text in state["pair"])
        assert state.get_meta_info("pair")["completion_tokens"] > 0
        assert state.text().count(";") == 3
        assert len(state.messages()) == 0
