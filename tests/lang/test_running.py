import asyncio
import threading

import pytest

import furcate as fc

pytestmark = pytest.mark.timeout(10)


@fc.function
def asks(s, question, style="short"):
    s += fc.user(f"{question} ({style})")
    s += fc.assistant(fc.gen("answer"))
    return style


@fc.function
async def asks_async(s, question):
    s += fc.user(question)
    s += fc.assistant(fc.gen("answer"))
    first = await s.aget("answer")
    s += fc.user(first + "?")
    s += fc.assistant(fc.gen("again"))
    return s.ref("again")


@pytest.fixture
def backend():
    with fc.Mock("R") as mock:
        fc.set_default_backend(mock)
        yield mock
    fc.set_default_backend(None)


def test_arguments_are_passed_as_they_are(backend):
    assert asks.run("why").ret_value == "short"
    assert asks.run("why", style="long").ret_value == "long"
    assert asks.run(question="why", style="long").text().startswith("<|im_start|>user\nwhy (long)")
    assert asks("why")["answer"] == "R"


@pytest.mark.parametrize(
    ("args", "keywords", "word"),
    [
        ((), {}, r"asks\(\) is missing a required argument: 'question'"),
        (("a", "b", "c"), {}, r"asks\(\) got too many positional arguments"),
        (("a",), {"stile": 1}, r"asks\(\) got an unexpected keyword argument 'stile'"),
    ],
)
def test_missing_and_unknown_arguments_are_type_errors_before_anything_runs(
    backend, args, keywords, word
):
    with pytest.raises(TypeError, match=word):
        asks.run(*args, **keywords)
    assert backend.num_messages == 0


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"max_new_tokens": -5}, "max_new_tokens|max_tokens .*-5"),
        ({"temperature": "hot"}, "'hot'"),
        ({"seed": -1}, "seed .*-1"),
        ({"timeout": 0}, "timeout .*0"),
        ({"stream": "yes"}, "stream .*'yes'"),
        ({"sampling": [1]}, "sampling"),
        ({"backend": 3}, "backend"),
    ],
)
def test_bad_options_raise_at_the_call(backend, keywords, message):
    with pytest.raises(fc.UsageError, match=message):
        asks.run("why", **keywords)


def test_a_parameter_of_the_program_wins_over_a_keyword_of_the_run():
    seen = []

    @fc.function
    def own(s, temperature):
        s += fc.gen("a")
        return temperature

    def reply(call):
        seen.append(call.sampling.temperature)
        return "R"

    with fc.Mock(reply) as backend:
        state = own.run(temperature="mine", sampling={"temperature": 0.5}, backend=backend)
    assert state.ret_value == "mine"
    assert seen == [0.5]


def test_a_program_with_its_own_keywords_gets_what_is_no_option(backend):
    @fc.function
    def own(s, **words):
        return words

    assert own.run(a=1, temperature=0.5).ret_value == {"a": 1}


def test_an_unknown_sampling_parameter_is_a_type_error(backend):
    with pytest.raises(TypeError, match="heat"):
        asks.run("why", sampling={"heat": 1})


def test_the_body_runs_once_in_the_callers_thread(backend):
    threads = []

    @fc.function
    def body(s):
        threads.append(threading.get_ident())
        s += fc.gen("a")
        s["a"]

    body.run()
    assert threads == [threading.get_ident()]


def test_a_run_inside_a_program_is_a_program_of_its_own(backend):
    @fc.function
    def outer(s):
        s += fc.gen("a")
        inner = asks.run(s["a"])
        s += "inner said " + inner["answer"]
        return s.text()

    assert outer.run().ret_value == "Rinner said R"


def test_a_program_without_nodes_runs(backend):
    assert fc.function(lambda s: 3).run().ret_value == 3


def test_a_straight_line_program_is_one_message(backend):
    @fc.function
    def chat(s, one, two):
        s += fc.system("be brief")
        s += fc.user(one)
        s += fc.assistant(fc.gen("answer_1"))
        s += fc.user(two)
        s += fc.assistant(fc.gen("answer_2"))

    chat.run("a", "b")
    assert backend.num_messages == 1


def test_much_text_is_sent_before_the_body_ends(by_hand):
    backend, channel = by_hand(
        lambda c, r: [by_hand.finished(r.program)] if getattr(r, "done", False) else []
    )

    @fc.function
    def long(s):
        for _ in range(3):
            s += "x" * 20_000
            yield_point.append(len(channel.sent))

    yield_point = []
    long.run(backend=backend)
    assert yield_point == [0, 1, 1]

    @fc.function
    def many(s):
        for turn in range(130):
            s += str(turn)

    channel.sent.clear()
    many.run(backend=backend)
    assert len(channel.sent) == 3


def test_a_program_needs_a_state():
    with pytest.raises(fc.UsageError, match="state"):
        fc.function(lambda: None)
    with pytest.raises(fc.UsageError, match="function"):
        fc.function(3)


def test_the_function_keeps_its_name_and_docstring():
    @fc.function
    def documented(s):
        "Says what it does."

    assert documented.__doc__ == "Says what it does."
    assert documented.__name__ == "documented"
    assert "documented" in repr(documented)


# Async -------------------------------------------------------------------------------------------


def test_an_async_program_runs_by_arun_and_by_run(backend):
    assert asyncio.run(asks_async.arun("q")).ret_value == "R"
    assert asks_async.run("q").ret_value == "R"


def test_a_plain_program_runs_by_arun(backend):
    @fc.function
    def forces(s):
        s += fc.gen("a")
        return s["a"]

    async def both():
        return await asyncio.gather(forces.arun(), forces.arun(), asks.arun("why"))

    assert [state.ret_value for state in asyncio.run(both())] == ["R", "R", "short"]


def test_an_async_program_runs_inside_a_loop_on_a_loop_of_its_own(backend):
    async def inside():
        return asks_async.run("q")["again"], asks.run("why")["answer"]

    assert asyncio.run(inside()) == ("R", "R")


def test_reading_a_value_inside_an_async_body_says_to_await_aget(by_hand):
    backend, _ = by_hand()

    @fc.function
    async def blocks(s):
        s += fc.gen("a")
        s["a"]

    with pytest.raises(fc.UsageError, match="aget"):
        blocks.run(backend=backend)


def test_async_programs_wait_side_by_side_without_threads(by_hand):
    """All are sent before the first is answered; one thread, one loop."""
    waiting = []

    def react(channel, request):
        if not hasattr(request, "nodes"):
            return []
        if request.done:
            return [by_hand.finished(request.program)]
        waiting.append(request)
        if len(waiting) < 20:
            return []
        return [e for r in waiting for e in by_hand.values(r.program, r.nodes)]

    @fc.function
    async def body(s):
        s += fc.gen("a")
        return await s.aget("a"), threading.get_ident()

    backend, _ = by_hand(react)

    async def all_of_them():
        return await asyncio.gather(*(body.arun(backend=backend) for _ in range(20)))

    states = asyncio.run(all_of_them())
    assert {state.ret_value for state in states} == {("x", threading.get_ident())}


def test_a_cancelled_task_cancels_its_program(by_hand):
    backend, channel = by_hand()

    @fc.function
    async def body(s):
        s += fc.gen("a")
        await s.aget("a")

    async def cancel_one():
        task = asyncio.create_task(body.arun(backend=backend))
        while not channel.sent:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_one())
    assert type(channel.sent[-1][0]).__name__ == "Cancel"


def test_atext_and_ref_aget(backend):
    @fc.function
    async def body(s):
        s += "a" + fc.gen("x")
        return await s.atext(), await s.ref("x").aget()

    assert body.run().ret_value == ("aR", "R")


def test_state_cancel_ends_the_program(by_hand):
    backend, _ = by_hand()

    @fc.function
    def body(s):
        s += fc.gen("a")
        s.cancel()

    with pytest.raises(fc.ProgramError) as raised:
        body.run(backend=backend)
    assert isinstance(raised.value.cause, fc.Cancelled)
