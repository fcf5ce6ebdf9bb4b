"""Programs inside programs: appended, spawned, bound, and run as programs of their own."""

from __future__ import annotations

import asyncio
import functools

import pytest
from tests.fakes.in_process import context_session, scripted_session

import furcate as fc


def last_word(call):
    return call.text.split()[-1].upper() if call.text.split() else "NOTHING"


@fc.function
def ask(s, question, name="answer"):
    s += f"Q: {question} A: "
    s += fc.gen(name)
    s["asked"] = question
    return s.ref(name)


@fc.function
async def ask_async(s, question):
    s += f"Q: {question} A: " + fc.gen("answer")
    return await s.aget("answer")


def run(body, replies=last_word, **keywords):
    with fc.Mock(replies) as backend:
        return fc.function(body).run(backend=backend, **keywords)


# Appended -----------------------------------------------------------------------------------------


def test_a_program_that_is_appended_runs_on_the_state_and_leaves_its_variables():
    def body(s):
        s += "Begin. "
        call = ask("why")
        s += call
        s += " " + ask("how", name="second")
        return call.ret_value, s["answer"], s["second"], s["asked"], s.text()

    assert run(body).ret_value == (
        "A:", "A:", "A:", "how", "Begin. Q: why A: A: Q: how A: A:"
    )  # fmt: skip


def test_a_program_that_is_appended_is_part_of_the_same_program():
    with context_session(num_pages=512) as backend:

        @fc.function
        def whole(s):
            for index in range(5):
                s += ask(str(index), name=f"a{index}")

        @fc.function
        def flat(s):
            for index in range(5):
                s += f"Q: {index} A: "
                s += fc.gen(f"a{index}")

        before = backend.num_messages
        one = whole.run(backend=backend, seed=5, max_new_tokens=3)
        assert backend.num_messages - before <= 2
        other = flat.run(backend=backend, seed=5, max_new_tokens=3)
        assert one.text() == other.text()


def test_appended_inside_a_role_and_to_a_group():
    def body(s):
        s += fc.user(ask("why"))
        s.assistant(ask("how"))
        group = s.fork(2)
        call = ask("both")
        group += call
        assert [ref.get() for ref in call.ret_values] == ["A:", "A:"]
        return s.messages()

    assert run(body).ret_value == [
        {"role": "user", "content": "Q: why A: A:"},
        {"role": "assistant", "content": "Q: how A: A:"},
    ]


def test_outside_of_a_body_a_call_is_a_run():
    with fc.Mock("R") as backend:
        fc.set_default_backend(backend)
        try:
            assert ask("why")["answer"] == "R"
        finally:
            fc.set_default_backend(None)


def test_a_call_that_is_never_appended_fails_the_body_with_its_line():
    def body(s):
        ask("why")

    with pytest.raises(fc.UsageError, match="never appended") as caught:
        run(body)
    line = body.__code__.co_firstlineno + 1
    assert f"test_subprograms.py:{line}" in str(caught.value)
    assert "s += ask(...)" in str(caught.value)


def test_a_call_that_is_never_appended_inside_another_part_fails_too():
    @fc.function
    def outer(s):
        ask("why")

    with pytest.raises(fc.UsageError, match="never appended"):
        run(lambda s: s.__iadd__(outer()))


def test_a_body_that_raises_is_told_by_what_it_raised():
    def body(s):
        ask("why")
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run(body)


@pytest.mark.parametrize("use", [lambda call: call["answer"], lambda call: call.text()])
def test_a_call_inside_a_body_is_no_state_and_says_so(use):
    def body(s):
        use(ask("why"))

    with pytest.raises(fc.UsageError, match=r"use `\.run\(\.\.\.\)`"):
        run(body)


def test_the_return_value_of_a_call_needs_exactly_one_append():
    def body(s):
        call = ask("why")
        with pytest.raises(fc.UsageError, match="never"):
            call.ret_value  # noqa: B018
        s += call
        s += call
        with pytest.raises(fc.UsageError, match="2 times"):
            call.ret_value  # noqa: B018

    run(body)


def test_a_recursion_with_an_end_is_fine_and_one_without_is_refused():
    @fc.function
    def deep(s, left):
        s += str(left)
        if left:
            s += deep(left - 1)

    assert run(lambda s: s.__iadd__(deep(3)).text()).ret_value == "3210"
    with pytest.raises(fc.UsageError, match="64 deep"):
        run(lambda s: s.__iadd__(deep(1000)))


@pytest.mark.parametrize("option", [{"temperature": 0.5}, {"stream": True}, {"timeout": 3}])
@pytest.mark.parametrize("use", ["append", "spawn"])
def test_options_of_a_run_have_no_place_inside_a_program(option, use):
    def body(s):
        if use == "append":
            s += ask("why", **option)
        else:
            ask.spawn("why", **option)

    with pytest.raises(fc.UsageError, match=next(iter(option))):
        run(body)


def test_wrong_arguments_raise_where_the_call_is():
    with pytest.raises(TypeError, match=r"ask\(\)"):
        run(lambda s: s.__iadd__(ask()))


def test_an_async_program_is_appended_by_awaiting():
    @fc.function
    async def whole(s):
        call = ask_async("why")
        await s.aappend(call)
        await s.aappend(ask("how", name="second"))
        with pytest.raises(fc.UsageError, match=r"await s\.aappend"):
            s += ask_async("what")
        return call.ret_value, await s.aget("second")

    with fc.Mock(last_word) as backend:
        state = asyncio.run(whole.arun(backend=backend))
        assert state.ret_value == ("A:", "A:")
        assert whole.run(backend=backend).ret_value == ("A:", "A:")


def test_an_async_program_runs_to_its_end_where_a_plain_one_appends_it():
    def body(s):
        call = ask_async("why")
        s += call
        return call.ret_value

    assert run(body).ret_value == "A:"


# Spawned ------------------------------------------------------------------------------------------


def test_a_spawned_program_is_a_branch_of_the_same_program():
    def body(s):
        s += "Main. "
        one = ask.spawn("why")
        two = ask.spawn("how")
        two += " " + one.ref("answer")
        s += "First: " + one.ref("answer") + ", second: " + two.ret_value
        return s.text(), two.text(), one["asked"]

    assert run(body).ret_value == ("Main. First: A:, second: A:", "Q: how A: A: A:", "why")


def test_explain_shows_what_is_spawned():
    @fc.function
    def whole(s):
        s += "x"
        ask.spawn("why")

    assert "[1] root" in whole.explain()


def test_the_failure_of_a_spawned_branch_is_the_programs():
    def broken(call):
        raise RuntimeError("no")

    def body(s):
        ask.spawn("why")

    with pytest.raises(fc.ProgramError, match="answer"):
        run(body, broken)


def test_cancelling_a_spawned_branch_leaves_the_program():
    with context_session(num_pages=512) as backend:

        @fc.function
        def endless(s):
            s += "go" + fc.gen("x", max_tokens=4000)

        @fc.function
        def whole(s):
            endless.spawn().cancel()
            s += "on" + fc.gen("y", max_tokens=2)

        assert whole.run(backend=backend).text().startswith("on")


def test_an_exception_in_a_spawned_body_is_the_bodys():
    @fc.function
    def bad(s):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run(lambda s: bad.spawn())


def test_outside_of_a_body_spawn_starts_a_program():
    with fc.Mock(last_word) as backend:
        state = ask.spawn("why", backend=backend, seed=3)
        assert (state["answer"], state.ret_value, state.seed) == ("A:", "A:", 3)
        assert ask_async.spawn("why", backend=backend).ret_value == "A:"


def test_async_bodies_are_spawned_beside_the_one_that_spawns_them():
    @fc.function
    async def whole(s):
        one = ask_async.spawn("why")
        with pytest.raises(fc.UsageError, match="still runs"):
            one.ret_value  # noqa: B018
        s += "got " + fc.gen("mine")
        return await one.aget("answer"), await s.aget("mine")

    with fc.Mock(last_word) as backend:
        assert asyncio.run(whole.arun(backend=backend)).ret_value == ("A:", "GOT")


def test_the_program_waits_for_the_bodies_that_it_has_spawned():
    ended = []

    @fc.function
    async def slow(s):
        s += "x" + fc.gen("x")
        await s.aget("x")
        ended.append(True)

    @fc.function
    async def whole(s):
        slow.spawn()

    with fc.Mock("R") as backend:
        asyncio.run(whole.arun(backend=backend))
    assert ended == [True]


def test_an_exception_of_a_spawned_async_body_is_raised_by_the_run():
    @fc.function
    async def bad(s):
        raise LookupError("mine")

    @fc.function
    async def whole(s):
        bad.spawn()

    with fc.Mock("R") as backend, pytest.raises(LookupError, match="mine"):
        asyncio.run(whole.arun(backend=backend))


def test_an_async_program_is_spawned_from_a_plain_one():
    def body(s):
        state = ask_async.spawn("why")
        return state.ret_value

    assert run(body).ret_value == "A:"


# In the bodies of loops ---------------------------------------------------------------------------


def test_a_program_is_appended_in_the_body_of_a_loop():
    def body(s):
        def turn(s):
            call = ask("why")
            s += call
            s += "; " + call.ret_value + "; "

        s.loop(turn, max_iters=2)
        return s.text()

    assert run(body).ret_value == "Q: why A: A:; A:; " * 2


def test_a_program_cannot_be_spawned_in_the_body_of_a_loop():
    def body(s):
        s.loop(lambda s: ask.spawn("why") and None, max_iters=2)

    with pytest.raises(fc.UsageError, match="spawn ask cannot stand inside the body"):
        run(body)


# Run inside a program -----------------------------------------------------------------------------


@pytest.mark.timeout(20)
def test_a_run_inside_a_program_is_one_of_its_own_at_pool_size_one():
    with fc.Mock(last_word) as backend:

        @fc.function
        def whole(s, word):
            inner = ask.run(word, backend=backend)
            s += inner["answer"] + fc.gen("x")
            return inner._program is not s._program, s["x"]

        states = whole.run_batch([("a",), ("b",)], backend=backend, num_threads=1)
        assert [state.ret_value for state in states] == [(True, "A:"), (True, "A:")]


def answered(word):
    return ask(word)["answer"]


@pytest.mark.parametrize("kind", ["call", "check", "async"])
def test_what_the_runtime_calls_is_no_part_of_the_body_and_runs_programs(kind):
    def plain(s):
        s += "x" + fc.gen("x", check=lambda value: answered(value) == "A:", retries=1)
        return s["x"]

    async def on_the_loop(s):
        async def tool(word):
            return (await ask.arun(word, backend=backend))["answer"]

        return await s.call(tool, "a").aget()

    bodies = {
        "call": lambda s: s.call(answered, "a").get(),
        "check": plain,
        "async": on_the_loop,
    }
    with scripted_session({"x": "w", "A: ": "A:"}) as backend:
        fc.set_default_backend(backend)
        try:
            state = fc.function(bodies[kind]).run(timeout=20)
            assert state.ret_value == ("w" if kind == "check" else "A:")
        finally:
            fc.set_default_backend(None)


# Bound --------------------------------------------------------------------------------------------


def test_bound_arguments_are_given_unless_the_call_gives_others():
    why = ask.bind(question="why")
    named = why.bind(name="mine")
    with fc.Mock(last_word) as backend:
        assert why.run(backend=backend)["asked"] == "why"
        assert named.run(backend=backend)["mine"] == "A:"
        assert named.run("how", backend=backend)["asked"] == "how"
        assert named.run(question="what", backend=backend)["asked"] == "what"
        batch = named.run_batch([{}, {"question": "b"}, ("c",)], backend=backend)
        assert [state["asked"] for state in batch] == ["why", "b", "c"]
        assert asyncio.run(why.arun(backend=backend))["asked"] == "why"
    assert "why" in named.explain()


def test_a_bound_program_is_appended_and_spawned():
    why = ask.bind(question="why")

    def body(s):
        s += why()
        return why.spawn()["asked"], s["asked"]

    assert run(body).ret_value == ("why", "why")


@pytest.mark.parametrize("name", ["nope", "s", "temperature"])
def test_binding_what_is_no_argument_raises_at_once(name):
    with pytest.raises(TypeError, match=name):
        ask.bind(**{name: 1})


def test_binding_changes_nothing_on_the_program_itself():
    bound = ask.bind(question="why")
    assert repr(ask) == "<program ask>"
    assert repr(bound) == "<program ask(question='why')>"
    with pytest.raises(TypeError, match="question"):
        ask.run()


def test_a_function_that_takes_any_keyword_can_bind_any():
    @fc.function
    def any_of(s, **words):
        return words

    with fc.Mock("") as backend:
        assert any_of.bind(a=1).run(b=2, backend=backend).ret_value == {"a": 1, "b": 2}


def test_a_body_behind_another_decorator_keeps_its_arguments():
    def loud(body):
        @functools.wraps(body)
        def wrapped(s, *args, **keywords):
            s += "! "
            return body(s, *args, **keywords)

        return wrapped

    @fc.function
    @loud
    def shout(s, word):
        s += word
        return s.text()

    with fc.Mock("") as backend:
        assert shout.bind(word="w").run(backend=backend).ret_value == "! w"
