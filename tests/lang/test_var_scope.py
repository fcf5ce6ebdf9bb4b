"""`with s.var_scope("x")`: what is appended inside, as a variable."""

from __future__ import annotations

import pytest

import furcate as fc


@pytest.fixture(scope="module")
def engine():
    with fc.Engine("test:context") as backend:
        yield backend


def run(body, backend, **keywords):
    return fc.function(body).run(backend=backend, seed=5, **keywords)


def test_a_scope_is_the_text_inside_it_with_markup(engine):
    def body(s):
        s += "before "
        with s.var_scope("turns"):
            with s.user():
                s += "hi"
            s += fc.assistant(fc.gen("a", max_tokens=4))
        s += " after"

    state = run(body, engine)
    assert state.text() == "before " + state["turns"] + " after"
    assert state["turns"] == (
        f"<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n{state['a']}<|im_end|>\n"
    )


def test_a_scope_inside_a_turn_has_none_of_its_markup(engine):
    def body(s):
        with s.user(), s.var_scope("x"):
            s += "hi " + fc.gen("a", max_tokens=2)

    state = run(body, engine)
    assert state["x"] == "hi " + state["a"]


def test_a_scope_changes_nothing_that_is_generated(engine):
    def body(s, marks):
        s += "it "
        if marks:
            with s.var_scope("x"):
                s += "was " + fc.gen("a", max_tokens=6)
        else:
            s += "was " + fc.gen("a", max_tokens=6)
        s += "so" + fc.gen("b", max_tokens=6)

    program = fc.function(body)
    with_it, without = (program.run(m, backend=engine, seed=5) for m in (True, False))
    assert with_it.text() == without.text()
    assert with_it["b"] == without["b"]


def test_scopes_nest_and_a_name_means_its_last_block(engine):
    def body(s):
        with s.var_scope("outer"):
            s += "a"
            with s.var_scope("inner"):
                s += "b"
            s += "c"
        first = s.ref("inner")
        with s.var_scope("inner"):
            s += "d"
        return [s["outer"], first, s["inner"]]

    assert run(body, engine).ret_value == ["abc", "b", "d"]


def test_a_scope_can_be_referred_to_and_gathered(engine):
    def body(s):
        group = s.fork(2)
        for index, child in enumerate(group):
            with child.var_scope("x"):
                child += f"{index}:" + fc.gen("a", max_tokens=2)
            child += child.ref("x")
        group.join()
        s += fc.join("|", group.refs("x"))
        return s["x"]

    state = run(body, engine)
    assert state.text() == "|".join(state.ret_value)
    assert [text[:2] for text in state.ret_value] == ["0:", "1:"]


def test_a_scope_holds_what_a_join_has_appended_inside_it(engine):
    def body(s):
        s += "go "
        with s.var_scope("all"):
            group = s.fork(2)
            group += fc.gen("a", max_tokens=2)
            group.join("append")
        return [s["all"], *(child["a"] for child in group)]

    everything, first, second = run(body, engine).ret_value
    assert everything == first + second


def test_an_exception_ends_the_scope_and_propagates(engine):
    def body(s):
        try:
            with s.var_scope("x"):
                s += "half"
                raise LookupError("mine")
        except LookupError:
            s += "more"
        return s["x"]

    assert run(body, engine).ret_value == "half"


@pytest.mark.parametrize(
    "inside",
    [
        pytest.param(lambda s: s.__iadd__(fc.gen("x")), id="gen"),
        pytest.param(lambda s: s.__iadd__(fc.select("x", ["a"])), id="select"),
        pytest.param(lambda s: s.__iadd__(fc.gen("y", save_stop="x")), id="save_stop"),
        pytest.param(lambda s: s.set_var("x", 1), id="set_var"),
        pytest.param(lambda s: s.score("text", "x"), id="score"),
        pytest.param(lambda s: s.var_scope("x").__enter__(), id="var_scope"),
    ],
)
def test_its_name_cannot_be_set_inside_it(engine, inside):
    def body(s):
        with s.var_scope("x"):
            inside(s)

    with pytest.raises(fc.UsageError, match="var_scope 'x'"):
        run(body, engine)


@pytest.mark.parametrize("name", ["", 3, None])
def test_a_scope_needs_a_name(engine, name):
    with pytest.raises(fc.UsageError, match="var_scope"):
        run(lambda s: s.var_scope(name), engine)


def test_inside_it_the_name_is_what_it_was_before(engine):
    def body(s):
        with s.var_scope("x"):
            with pytest.raises(fc.UsageError, match="no variable 'x'"):
                s.ref("x")
            s += "one"
        with s.var_scope("x"):
            s += s.ref("x")
        return s["x"]

    state = run(body, engine)
    assert state.ret_value == "one"
    assert state.text() == "oneone"


def test_a_scope_streams_as_one_piece_and_is_no_event_of_its_own(engine):
    def body(s):
        with s.var_scope("x"):
            s += "a" + fc.gen("y", max_tokens=3)

    state = run(body, engine, stream=True)
    assert list(state.text_iter("x")) == ["a" + state["y"]]
    assert "".join(event.delta for event in state.events()) == state["y"]


def test_a_scope_fails_with_what_fails_inside_it(engine):
    def body(s):
        s += "a"
        with s.var_scope("x"):
            s += fc.gen("y", regex=r"a(?=b)")
        with pytest.raises(fc.ProgramError, match=r"a\(\?=b\)"):
            s["x"]

    assert not run(body, engine).ok


def test_mock_knows_scopes_too():
    def body(s):
        with s.var_scope("x"):
            s += "a" + fc.gen("y")

    with fc.Mock("b") as backend:
        assert run(body, backend)["x"] == "ab"
