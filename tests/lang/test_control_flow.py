"""Loops, switches and forks that the runtime decides: what they do, and each way to misuse them."""

from __future__ import annotations

import inspect

import pytest
from tests.fakes.in_process import context_session

import furcate as fc
from furcate.errors import ForcedInRegion


def counting():
    """Answers r1, r2, ... and takes the first choice."""
    count = 0

    def reply(call: fc.MockCall) -> str | int:
        nonlocal count
        if call.choices is not None:
            return 0
        count += 1
        return f"r{count}"

    return reply


backends = []


@pytest.fixture(autouse=True)
def close_backends():
    yield
    while backends:
        backends.pop().close()


def run(body, replies=None):
    """Its text can be asked for until the end of the test."""
    backends.append(fc.Mock(replies if replies is not None else counting()))
    return fc.function(body).run(backend=backends[-1])


def line_of(body, offset: int) -> str:
    """ "file:line" so many lines behind the `def`."""
    return f"test_control_flow.py:{inspect.getsourcelines(body)[1] + offset}"


# Loops -------------------------------------------------------------------------------------------


def test_a_loop_runs_its_body_so_often_and_calls_it_once():
    calls = []

    def body(s):
        def turn(s):
            calls.append(1)
            s += fc.gen("x") + ";"

        s.loop(turn, max_iters=3)
        s += "end"

    assert run(body).text() == "r1;r2;r3;end"
    assert calls == [1]


def test_a_loop_with_a_switch_is_one_message():
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
def test_a_loop_ends_after_the_run_in_which_its_condition_holds(condition):
    def returned(s):
        s.loop(lambda s: s.__iadd__(fc.gen("x")) and condition(s), max_iters=9)

    def given(s):
        s.loop(fc.gen("x") + "", until=condition, max_iters=9)

    assert run(returned).text() == run(given).text() == "r1r2"


def test_a_variable_means_what_the_run_before_has_made_of_it():
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


def test_what_only_some_runs_set_stays_what_it_was():
    def body(s):
        def turn(s, index):
            s.switch(index, {1: lambda s: s.set_var("seen", index), fc.default: "."})
            s += "|"

        s.loop(turn, max_iters=3)

    assert run(body)["seen"] == 1


def test_loops_in_loops_carry_their_variables_through():
    def body(s):
        s += fc.gen("x")

        def outer(s):
            s.loop(lambda s: s.set_var("x", s.ref("x").replace("r", "rr")), max_iters=2)
            s += " " + s.ref("x")

        s.loop(outer, max_iters=2)

    assert run(body).text() == "r1 rrrr1 rrrrrrrrrrrrrrrr1".replace("rrrrrrrr" * 2, "r" * 16)


def test_each_takes_lists_and_refs_of_lists():
    def body(s):
        s += fc.gen("list")
        s.each(s.ref("list"), lambda s, item, index: s.__iadd__(index + "=" + item + ";"))
        s.each(["x", 3, s.ref("list")[0]], lambda s, item: s.__iadd__("(" + item + ")"))
        s.each([], lambda s: s.__iadd__("never"))

    assert run(body, '["a", "b"]').text() == '["a", "b"]0=a;1=b;(x)(3)(a)'


def test_of_a_loop_without_a_run_a_variable_is_what_it_was():
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


def test_bodies_fork_and_join():
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


def test_bodies_use_roles_and_messages_know_them():
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


def test_a_loop_of_calls_calls_each_time():
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
def test_a_switch_runs_the_case_that_is_equal(reply, text):
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


def test_a_switch_without_a_case_for_the_value_fails_by_name():
    def body(s):
        s += fc.gen("x")
        s.switch("x", {"a": "A", "b": "B"})
        s += fc.gen("y")

    with pytest.raises(fc.ProgramError, match="no case of the switch is equal to 'c'") as raised:
        run(body, "c")
    assert raised.value.location.endswith(line_of(body, 2))


def test_after_a_switch_a_variable_is_what_the_case_has_set_or_what_it_was():
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


def test_reading_what_no_case_has_set_fails_and_says_so():
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


# Forks over lists --------------------------------------------------------------------------------


def test_a_fork_over_a_list_that_is_to_come_has_a_child_for_each_element():
    def body(s):
        s += fc.gen("list") + " "
        group = s.fork(over=s.ref("list"))
        s += "after "
        group += lambda index: "child " + index
        group.map(lambda child: child.__iadd__(" of " + child.item + ": " + fc.gen("leaf")))
        group.join()
        s += fc.join("|", group.refs("leaf"))

    texts = []

    def reply(call):
        texts.append(call.text)
        return '["a", "b"]' if len(texts) == 1 else f"r{len(texts)}"

    state = run(body, reply)
    assert texts[1:] == ['["a", "b"] child 0 of a: ', '["a", "b"] child 1 of b: ']
    assert state.text() == '["a", "b"] after r2|r3'
    assert state["leaf"] == ["r2", "r3"]


def test_a_child_that_fails_is_none_in_the_list():
    def body(s):
        group = s.fork(over=s.ref("items"))
        group += fc.gen("a") + fc.gen("n", type=int)
        group.join()

    def program(s):
        s["items"] = "[1, 2, 3]"
        body(s)

    count = 0

    def reply(call):
        nonlocal count
        count += 1
        if count == 3:
            raise RuntimeError("no answer")
        return str(count)

    state = run(program, reply)
    assert [value is None for value in state["n"]].count(True) == 1
    assert all(value is None or isinstance(value, int) for value in state["n"])
    assert state.ok


def test_a_fork_over_a_list_ends_with_its_first_read_or_with_the_body():
    def read(s):
        s["items"] = '["a"]'
        group = s.fork(over=s.ref("items"))
        group += fc.gen("x")
        assert group["x"] == ["r1"]
        with pytest.raises(fc.UsageError, match="has ended"):
            group += "more"
        with pytest.raises(fc.UsageError, match=r"no child .* sets 'y'"):
            group.refs("y")

    run(read)
    texts = []

    def left_open(s):
        s["items"] = '["a", "b"]'
        group = s.fork(over=s.ref("items"))
        group += fc.gen("x")

    run(left_open, lambda call: texts.append(call.text) or "r")
    assert len(texts) == 2


def test_forks_over_lists_nest_and_work_in_async_programs():
    @fc.function
    async def program(s):
        s += fc.gen("list")
        over = s.ref("list")
        group = s.fork(over=over)

        def grow(child):
            inner = child.fork(over=over)
            inner += fc.gen("leaf")
            deepest = child.fork(over=over)
            deepest += fc.gen("x", n=2)
            deepest.join()
            inner.join()

        group.map(grow)
        group.join()
        return await s.aget("leaf"), s.ref("x")

    with fc.Mock('["a", "b"]') as backend:
        leaves, deep = program.run(backend=backend).ret_value
    assert leaves == [['["a", "b"]'] * 2] * 2
    assert len(deep) == 2


def test_the_fork_point_is_where_the_fork_was_asked_for():
    texts = []

    def body(s):
        s["items"] = '["a"]'
        s += "one "
        group = s.fork(over=s.ref("items"))
        s += "two "
        group += fc.gen("x")
        group.join()
        s += fc.gen("y")

    run(body, lambda call: texts.append(call.text) or "r")
    assert sorted(texts) == ["one ", "one two "]


# Streaming, failures, limits ---------------------------------------------------------------------


def test_a_program_that_streams_shows_what_each_run_generates():
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


def test_a_failure_in_a_body_names_its_own_node_and_line():
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


def test_a_body_that_fails_only_in_a_branch_of_its_own_goes_on():
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


def test_too_many_runs_are_refused_by_name():
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


# Misuse ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        lambda s: s["x"],
        lambda s: s["before"],
        lambda s: bool(s.ref("x")),
        lambda s: s.ref("x") == "a",
        lambda s: f"{s.ref('x')}",
        lambda s: s.text(),
        lambda s: s.messages(),
        lambda s: s.sync(),
        lambda s: s.get_meta_info("x"),
        lambda s: list(s.text_iter()),
        lambda s: list(s.events()),
    ],
)
def test_a_value_that_is_read_in_a_body_is_an_error_with_its_line_and_a_remedy(read):
    def body(s):
        s += fc.gen("before")

        def turn(s):
            s += fc.gen("x")
            read(s)

        s.loop(turn, max_iters=2)

    with pytest.raises(ForcedInRegion, match=r"test_control_flow\.py:\d+, in the body of s\.loop"):
        run(body)


def test_forced_in_region_names_the_value_and_where_the_body_was_given():
    def body(s):
        def turn(s):
            s += fc.gen("x")
            if s["x"] == "a":
                s += "never"

        s.loop(turn, max_iters=2)

    with pytest.raises(ForcedInRegion) as raised:
        run(body)
    message = str(raised.value)
    assert "gen 'x'" in message
    assert line_of(body, 3) in message
    assert line_of(body, 6) in message
    assert "s.switch" in message


def test_a_program_that_requires_the_graph_never_waits():
    @fc.function(graph="require")
    def waits(s):
        s += fc.gen("x")
        return s["x"]

    @fc.function(graph="require")
    def returns_refs(s):
        s += fc.gen("x")
        return s.ref("x")

    with fc.Mock("r") as backend:
        with pytest.raises(ForcedInRegion, match=r"gen 'x' is read at .*graph='require'"):
            waits.run(backend=backend)
        state = returns_refs.run(backend=backend)
        assert (state.ret_value, state["x"], state.text()) == ("r", "r", "r")
    with pytest.raises(fc.UsageError, match="'require'"):
        fc.function(graph="maybe")


@pytest.mark.parametrize(
    ("misuse", "why"),
    [
        (lambda s: s.loop(lambda t: s.__iadd__("x"), max_iters=2), "use the state that the body"),
        (lambda s: s.loop(lambda t: s.fork(2), max_iters=2), "use the state that the body"),
        (lambda s: s.loop(lambda s: s.__iadd__(fc.user_begin()), max_iters=2), "role"),
        (lambda s: s.loop(lambda s: True, max_iters=2), "a condition is a Ref"),
        (lambda s: s.loop(".", until=lambda s: "yes", max_iters=2), "must give a Ref"),
        (lambda s: s.loop(lambda: None, max_iters=2), "takes the state"),
        (lambda s: s.loop(None, max_iters=2), "a plain function"),
        (lambda s: s.loop(".", max_iters=0), "max_iters"),
        (lambda s: s.loop(".", max_iters=True), "max_iters"),
        (lambda s: s.loop(fc.stop_loop + "x", max_iters=2), "after the stop_loop"),
        (lambda s: s.__iadd__(fc.stop_loop), "in no loop"),
        (lambda s: s.switch("x", {"a": fc.stop_loop}), "in no loop"),
        (lambda s: s.switch("x", {}), "dict"),
        (lambda s: s.switch("x", {None: "a"}), "default, got None"),
        (lambda s: s.switch("nobody", {"a": "b"}), "no variable 'nobody'"),
        (lambda s: s.switch(3, {"a": "b"}), "takes a Ref"),
        (lambda s: s.each("abc", "."), "s.each takes"),
        (lambda s: s.each([{}], "."), "can be compared|plain"),
        (lambda s: s.fork(2, over=s.ref("x")), "a list alone"),
        (lambda s: s.fork(over=s.ref("x")).join("append"), "'gather' alone"),
        (lambda s: s.fork(over=s.ref("x"))[0], "taken out"),
        (lambda s: s.fork(over=s.ref("x")).__iadd__(["a"]), "one expression"),
    ],
)
def test_misuse_is_an_error_when_it_is_recorded(misuse, why):
    def body(s):
        s += fc.gen("x")
        misuse(s)

    with pytest.raises((fc.UsageError, TypeError), match=why):
        run(body)


def test_what_belongs_to_a_body_means_nothing_outside():
    kept = {}

    def keep(s):
        s += fc.gen("x")
        kept["ref"], kept["state"] = s.ref("x"), s

    def body(s):
        s.loop(keep, max_iters=2)
        for use in (
            lambda: s.__iadd__(kept["ref"]),
            lambda: kept["ref"].upper(),
            lambda: kept["ref"].get(),
        ):
            with pytest.raises(fc.UsageError, match=r"gen 'x' of .* belongs to the body of s.loop"):
                use()
        with pytest.raises(fc.UsageError, match="ends with that body"):
            kept["state"] += "more"

    run(body)


def test_a_python_value_that_would_never_change_is_an_error():
    def body(s):
        s["count"] = 0

        def turn(s):
            s["count"] = s["count"] + 1

        s.loop(turn, max_iters=3)

    with pytest.raises(fc.UsageError, match=r"'count' is read as a Python value .* never change"):
        run(body)


def test_a_body_may_end_by_an_error_and_the_program_goes_on_without_it():
    def body(s):
        with pytest.raises(ZeroDivisionError):
            s.loop(lambda s: s.__iadd__("x" * (1 // 0)), max_iters=2)
        s += "fine"

    assert run(body).text() == "fine"


# With a model ------------------------------------------------------------------------------------


def test_a_batch_of_loops_is_the_loops_one_by_one():
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


def test_what_is_saved_in_a_loop_is_what_the_run_has():
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


def test_an_election_in_a_loop_gives_what_the_run_before_has_made():
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
