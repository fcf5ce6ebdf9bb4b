"""`state.call`: functions of this process, called when their arguments are there."""

import asyncio
import contextvars
import enum
import gc
import sys
import threading
import time
import weakref

import pytest
from tests.fakes.in_process import scripted_session

import furcate as fc

WAIT_S = 5.0


@pytest.fixture(scope="module")
def engine():
    with scripted_session({"colour? ": "red", "size? ": "42", "which? ": "b"}) as backend:
        yield backend


def test_what_a_function_returns_is_a_value_that_can_be_appended(engine):
    @fc.function
    def asks(s):
        s += "colour? " + fc.gen("colour", max_tokens=10)
        s += " is " + s.call(str.upper, s.ref("colour")) + "."

    state = asks.run(backend=engine)
    assert state.text() == "colour? red is RED."


def test_a_call_waits_for_nothing_and_its_ref_can_be_read(engine):
    begun = threading.Event()

    def slow(x):
        assert begun.wait(WAIT_S)
        return x + 1

    @fc.function
    def asks(s):
        ref = s.call(slow, 1)
        begun.set()
        return int(ref), ref

    assert asks.run(backend=engine).ret_value == (2, 2)


def test_what_comes_after_a_call_does_not_wait_for_it(engine):
    generated = threading.Event()

    def waits_for_the_text():
        assert generated.wait(WAIT_S)
        return "late"

    @fc.function
    def asks(s):
        ref = s.call(waits_for_the_text)
        s += "colour? " + fc.gen("colour", max_tokens=10)
        assert s["colour"] == "red"
        generated.set()
        s += ref

    assert asks.run(backend=engine).text() == "colour? redlate"


def test_arguments_are_the_values_that_refs_stand_for(engine):
    seen = []

    @fc.function
    def asks(s):
        s += "size? " + fc.gen("size", type=int, max_tokens=10)
        s += "which? " + fc.select("letter", ["a", "b"])
        s.call(lambda *args: seen.append(args), s.ref("size"), s.ref("letter"), 1.5, None, True)

    asks.run(backend=engine)
    ((size, *rest),) = seen
    assert type(size) is int
    assert (size, *rest) == (42, "b", 1.5, None, True)


@pytest.mark.parametrize(
    "value", ["text", "", "è\n", 3, -(2**63), 2**64 - 1, 0.5, True, None, [], [1, "a", [2.5, None]]]
)
def test_plain_data_comes_back_as_it_is(engine, value):
    @fc.function
    def asks(s):
        return s.call(lambda: value).get()

    returned = asks.run(backend=engine).ret_value
    assert returned == value
    assert type(returned) is type(value)


def test_subclasses_of_plain_data_come_back_as_plain_data(engine):
    class Level(enum.IntEnum):
        low = 1

    class Colour(enum.StrEnum):
        red = "red"

    @fc.function
    def asks(s):
        return s.call(lambda: [Level.low, Colour.red, (1, 2)]).get()

    returned = asks.run(backend=engine).ret_value
    assert returned == [1, "red", [1, 2]]
    assert [type(element) for element in returned] == [int, str, list]


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"a": 1}, "type dict"),
        (object, "type type"),
        (b"bytes", "type bytes"),
        (2**64, "over 64 bits"),
        ([[[1]]], "type list"),
        ("\ud800", "surrogate"),
    ],
)
def test_what_is_no_plain_data_is_told_with_its_type_and_a_remedy(engine, value, named):
    @fc.function
    def asks(s):
        return s.call(lambda: value)

    with pytest.raises(fc.ProgramError, match=named) as raised:
        asks.run(backend=engine)
    assert isinstance(raised.value.cause, fc.UsageError)
    assert raised.value.node == "call '<lambda>'"
    assert raised.value.location.startswith(__file__)


def test_what_a_function_raises_is_the_calls_failure_with_its_cause(engine):
    def divides(x):
        return 1 // x

    @fc.function
    def asks(s):
        s += "colour? " + s.call(divides, 0)

    with pytest.raises(fc.ProgramError, match=r"divides\(\) raised ZeroDivisionError") as raised:
        asks.run(backend=engine)
    failure = raised.value.cause
    assert isinstance(failure, fc.CallFailed)
    assert isinstance(failure.__cause__, ZeroDivisionError)
    assert raised.value.node == "call 'divides'"


class Untold(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no words")

    __str__ = __repr__


def test_what_cannot_be_printed_is_a_failure_all_the_same(engine):
    def raises():
        raise Untold

    @fc.function
    def asks(s, function):
        s.call(function)

    for function, named in ((raises, "Untold"), (Untold, "no words")):
        with pytest.raises(fc.ProgramError, match=named) as raised:
            asks.run(function, backend=engine, timeout=WAIT_S)
        assert isinstance(raised.value.cause, fc.CallFailed)


def test_a_function_that_exits_is_a_failure_of_its_call_alone(engine):
    @fc.function
    def asks(s):
        s.call(sys.exit, 3)

    with pytest.raises(fc.ProgramError, match="SystemExit"):
        asks.run(backend=engine, timeout=WAIT_S)


def test_a_failed_call_leaves_its_branch_as_it_was(engine):
    def breaks():
        raise OSError("no network")

    @fc.function
    def asks(s):
        ref = s.call(breaks)
        s += "colour? "
        with pytest.raises(fc.ProgramError, match="no network"):
            s += str(ref)
        s += fc.gen("colour", max_tokens=10)

    assert asks.run(backend=engine)["colour"] == "red"


def test_a_failed_call_of_a_child_is_its_failure(engine):
    def breaks():
        raise OSError("no network")

    @fc.function
    def asks(s):
        children = s.fork(2)
        children += "colour? " + fc.gen("colour", max_tokens=10)
        children[1].set_var("more", children[1].call(breaks))
        children.join()
        return s["colour"], s["more"]

    state = asks.run(backend=engine)
    assert state.ret_value == (["red", "red"], [None, None])


def test_a_call_whose_argument_has_no_value_is_not_made(engine):
    called = []

    @fc.function
    def asks(s):
        s += "size? " + fc.gen("size", type=int, max_tokens=1)
        s.call(called.append, s.call(lambda: 1 // 0))
        s.call(called.append, s.ref("size"))

    with pytest.raises(fc.ProgramError):
        asks.run(backend=engine)
    assert called == []


def test_the_calls_of_a_branch_follow_one_another_in_their_order(engine):
    done = []

    def note(number):
        time.sleep(0.001 * (3 - number))
        done.append(number)

    @fc.function
    def asks(s):
        for number in range(3):
            s.call(note, number)

    asks.run(backend=engine)
    assert done == [0, 1, 2]


def test_the_calls_of_different_branches_run_side_by_side(engine):
    both = threading.Barrier(2)

    @fc.function
    def asks(s):
        for child in s.fork(2):
            child += child.call(lambda: both.wait(WAIT_S) and "")

    asks.run(backend=engine)


def test_lists_may_hold_refs(engine):
    @fc.function
    def asks(s):
        s += "colour? " + fc.gen("colour", max_tokens=10)
        return s.call(lambda parts: "-".join(map(str, parts)), [s.ref("colour"), 1, "x"]).get()

    assert asks.run(backend=engine).ret_value == "red-1-x"


@pytest.mark.parametrize(
    ("args", "keywords", "named"),
    [
        ((3,), {}, "call.. takes a function, got 3"),
        ((len, {"a": 1}), {}, "type dict"),
        ((len, object()), {}, "type object"),
        ((len,), {"expect_s": -1}, "expect_s must be"),
        ((len,), {"expect_s": float("nan")}, "expect_s must be"),
        ((len,), {"expect_s": True}, "expect_s must be"),
    ],
)
def test_a_wrong_call_is_refused_where_it_is_made(engine, args, keywords, named):
    @fc.function
    def asks(s):
        s.call(*args, **keywords)

    with pytest.raises(fc.UsageError, match=named):
        asks.run(backend=engine)


def test_a_ref_of_another_program_is_refused(engine):
    @fc.function
    def other(s):
        s += "colour? " + fc.gen("colour", max_tokens=10)
        return 0

    foreign = other.run(backend=engine)

    @fc.function
    def asks(s):
        s.call(len, foreign.ref("colour"))

    with pytest.raises(fc.UsageError, match="another program"):
        asks.run(backend=engine)


def test_a_function_runs_in_the_context_of_the_code_that_named_it(engine):
    user = contextvars.ContextVar("user", default="nobody")

    @fc.function
    def asks(s):
        return s.call(user.get).get()

    user.set("Ada")
    assert asks.run(backend=engine).ret_value == "Ada"


def test_a_function_that_never_returns_ends_with_the_programs_timeout(engine):
    release = threading.Event()

    @fc.function
    def asks(s):
        s += s.call(release.wait)

    with pytest.raises(fc.ProgramError) as raised:
        asks.run(backend=engine, timeout=0.05)
    assert isinstance(raised.value.cause, fc.DeadlineExceeded)
    release.set()


def test_functions_that_never_return_take_no_thread_from_later_programs():
    release = threading.Event()

    @fc.function
    def hangs(s):
        s.call(release.wait)

    @fc.function
    def asks(s):
        return s.call(lambda: "yes").get()

    with scripted_session({}) as backend:
        backend._call_pool()._size = 2
        states = hangs.run_batch([()] * 4, backend=backend, timeout=0.05, on_error="return")
        assert not any(state.ok for state in states)
        assert asks.run(backend=backend, timeout=WAIT_S).ret_value == "yes"
    release.set()


def test_a_function_may_run_a_program_that_calls_functions_however_few_threads_there_are():
    @fc.function
    def inner(s, depth):
        return s.call(deeper, depth - 1).get() if depth else 0

    def deeper(depth):
        return 1 + inner.run(depth, backend=backend).ret_value

    with scripted_session({}) as backend:
        backend._call_pool()._size = 1
        states = inner.run_batch([(4,)] * 6, backend=backend, timeout=WAIT_S)
        assert [state.ret_value for state in states] == [4] * 6


def test_no_more_threads_than_there_are_calls(engine):
    @fc.function
    def asks(s, number):
        return s.call(lambda: number)

    states = asks.run_batch([(i,) for i in range(300)], backend=engine)
    assert [state.ret_value for state in states] == list(range(300))
    threads = [t for t in threading.enumerate() if t.name == "furcate-call"]
    assert len(threads) <= 64


def test_an_async_function_runs_on_the_loop_of_its_program(engine):
    @fc.function
    async def asks(s):
        loops.append(asyncio.get_running_loop())
        refs = [child.call(both_needed) for child in s.fork(2)]
        return [await ref.aget() for ref in refs]

    async def both_needed():
        loops.append(asyncio.get_running_loop())
        arrived.append(1)
        while len(arrived) < 2:
            await asyncio.sleep(0)
        return "met"

    loops, arrived = [], []
    assert asyncio.run(asks.arun(backend=engine)).ret_value == ["met", "met"]
    assert len(set(loops)) == 1


def test_an_async_function_of_a_plain_program_is_awaited(engine):
    async def pauses(x):
        await asyncio.sleep(0)
        return x * 2

    @fc.function
    def asks(s):
        return s.call(pauses, 4), s.call(lambda: pauses(5))

    assert asks.run(backend=engine).ret_value == (8, 10)


def test_a_plain_function_of_an_async_program_does_not_block_its_loop(engine):
    ticked = threading.Event()

    def waits():
        assert ticked.wait(WAIT_S)
        return "ticked"

    @fc.function
    async def asks(s):
        ref = s.call(waits)
        await asyncio.sleep(0)
        ticked.set()
        return await ref.aget()

    assert asyncio.run(asks.arun(backend=engine)).ret_value == "ticked"


def test_an_async_function_that_never_ends_is_cancelled_with_its_program(engine):
    cancelled = []

    async def never():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    @fc.function
    async def asks(s):
        s += s.call(never)

    async def main():
        with pytest.raises(fc.ProgramError):
            await asks.arun(backend=engine, timeout=0.05)
        while not cancelled:
            await asyncio.sleep(0)

    asyncio.run(main())


def test_a_program_lives_no_longer_than_it_is_held_though_its_function_holds_it(engine):
    @fc.function
    def asks(s):
        s += s.call(lambda: "x" if s is not None else "y")

    state = asks.run(backend=engine)
    gone = weakref.ref(state._program)
    gc.disable()
    try:
        del state
        assert gone() is None
    finally:
        gc.enable()


def test_each_run_of_a_loop_calls_anew_and_a_fork_may_be_over_what_a_call_gives(engine):
    @fc.function
    def asks(s):
        def body(s):
            s += "colour? " + fc.gen("colour", max_tokens=10)
            s += s.call(
                lambda colour: f"<{colour}{len(done)}>{done.append(1) or ''}", s.ref("colour")
            )

        s.loop(body, max_iters=3)
        children = s.fork(over=s.call(lambda: ["a", "b"]))
        children.map(lambda child: child.set_var("twice", child.call(lambda x: x * 2, child.item)))
        children.join()
        return s["twice"]

    done = []
    state = asks.run(backend=engine)
    assert state.text() == "colour? red<red0>colour? red<red1>colour? red<red2>"
    assert state.ret_value == ["aa", "bb"]


def test_what_a_function_raises_in_a_loop_is_told_with_its_cause_and_line(engine):
    @fc.function
    def asks(s):
        def body(s):
            s += "colour? " + s.call(lambda: 1 // 0)

        s.loop(body, max_iters=3)

    with pytest.raises(fc.ProgramError) as raised:
        asks.run(backend=engine)
    assert isinstance(raised.value.cause.__cause__, ZeroDivisionError)
    assert raised.value.location.startswith(__file__)


def test_a_program_that_never_waits_may_call(engine):
    @fc.function(graph="require")
    def asks(s):
        s += "colour? " + fc.gen("colour", max_tokens=10)
        s += " is " + s.call(str.upper, s.ref("colour"))
        return s.call(len, s.ref("colour"))

    state = asks.run(backend=engine)
    assert state.text() == "colour? red is RED"
    assert state.ret_value == 3


def test_calls_are_shown_by_explain():
    @fc.function
    def asks(s):
        s += "colour? " + fc.gen("colour")
        s += s.call(str.upper, s.ref("colour"), expect_s=2)

    shown = asks.explain()
    assert "[0] value 1 = call 'upper'(value 0)" in shown
    assert "no round trip" in shown
