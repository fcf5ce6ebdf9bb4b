"""Each way to misuse a body is an error when it is recorded, with its line and a remedy."""

from __future__ import annotations

import pytest
from tests.fakes.mock_runs import line_of

import furcate as fc
from furcate.errors import ForcedInRegion


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
def test_a_value_that_is_read_in_a_body_is_an_error_with_its_line_and_a_remedy(run, read):
    def body(s):
        s += fc.gen("before")

        def turn(s):
            s += fc.gen("x")
            read(s)

        s.loop(turn, max_iters=2)

    with pytest.raises(
        ForcedInRegion, match=r"test_misuse_of_bodies\.py:\d+, in the body of s\.loop"
    ):
        run(body)


def test_forced_in_region_names_the_value_and_where_the_body_was_given(run):
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


def test_a_program_that_requires_the_graph_never_waits(run):
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
def test_misuse_is_an_error_when_it_is_recorded(run, misuse, why):
    def body(s):
        s += fc.gen("x")
        misuse(s)

    with pytest.raises((fc.UsageError, TypeError), match=why):
        run(body)


def test_what_belongs_to_a_body_means_nothing_outside(run):
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


def test_a_python_value_that_would_never_change_is_an_error(run):
    def body(s):
        s["count"] = 0

        def turn(s):
            s["count"] = s["count"] + 1

        s.loop(turn, max_iters=3)

    with pytest.raises(fc.UsageError, match=r"'count' is read as a Python value .* never change"):
        run(body)


def test_a_body_may_end_by_an_error_and_the_program_goes_on_without_it(run):
    def body(s):
        with pytest.raises(ZeroDivisionError):
            s.loop(lambda s: s.__iadd__("x" * (1 // 0)), max_iters=2)
        s += "fine"

    assert run(body).text() == "fine"


@pytest.mark.parametrize("stream", [False, True])
def test_a_group_that_is_left_in_a_role_ends_the_program_with_an_error(stream):
    @fc.function
    def program(s):
        s["items"] = "[1]"
        group = s.fork(over=s.ref("items"))
        group += fc.user_begin()

    with fc.Mock("r") as backend, pytest.raises(fc.UsageError, match="leaves the role as it has"):
        list(program.run(backend=backend, stream=stream).events())
