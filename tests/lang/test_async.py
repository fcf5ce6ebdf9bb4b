"""Async programs, event loops that are busy, streams, interruptions, and Refs that leak."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading

import pytest
from tests.fakes.in_process import context_session

import furcate as fc
from furcate.protocol.graph import Drop
from furcate.protocol.message import Cancel, Graph

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def backend():
    with context_session() as session:
        yield session


@fc.function
async def two_steps(s, topic):
    s += fc.user(topic)
    s += fc.assistant(fc.gen("first", max_tokens=4))
    first = await s.aget("first")
    s += fc.user("More than " + first)
    s += fc.assistant(fc.gen("second", max_tokens=4))
    return await s.aget("second")


@fc.function
def one_step(s, topic):
    s += topic
    s += fc.gen("answer", max_tokens=4)
    return s["answer"]


# Loops that are busy -----------------------------------------------------------------------------


def test_run_works_in_a_cell_of_a_notebook(backend):
    """A notebook's cells run inside its event loop."""

    async def cell():
        before = asyncio.get_running_loop()
        results = (
            two_steps.run("a", backend=backend).ret_value,
            one_step.run("a", backend=backend).ret_value,
            len(two_steps.run_batch([("a",), ("b",)], backend=backend)),
            len(one_step.run_batch([("a",), ("b",)], backend=backend)),
        )
        assert asyncio.get_running_loop() is before
        return results

    second, answer, *counts = asyncio.run(cell())
    assert isinstance(second, str)
    assert isinstance(answer, str)
    assert counts == [2, 2]


def test_an_error_in_another_loop_is_raised_where_run_was_called(backend):
    @fc.function
    async def fails(s):
        raise LookupError("mine")

    async def cell():
        fails.run(backend=backend)

    with pytest.raises(LookupError, match="mine"):
        asyncio.run(cell())


def test_a_program_may_run_others_in_its_body_whatever_kind_they_are(backend):
    @fc.function
    async def outer_async(s):
        inner = two_steps.run("x", backend=backend).ret_value
        s += inner + one_step.run("y", backend=backend).ret_value
        s += fc.gen("z", max_tokens=2)
        again = await two_steps.arun(await s.aget("z"), backend=backend)
        return again.ret_value

    @fc.function
    def outer(s):
        s += two_steps.run("x", backend=backend).ret_value
        s += one_step.run("y", backend=backend).ret_value + fc.gen("z", max_tokens=2)
        return s["z"]

    assert isinstance(outer_async.run(backend=backend).ret_value, str)
    assert isinstance(outer.run(backend=backend).ret_value, str)
    for program in (outer, outer_async):
        states = program.run_batch([()] * 3, num_threads=1, backend=backend)
        assert len({id(state) for state in states}) == 3


def test_a_run_inside_a_batch_of_one_thread_is_no_deadlock(backend):
    @fc.function
    def nested(s, depth):
        s += "deeper " + fc.gen("x", max_tokens=2)
        if depth:
            s += nested.run(depth - 1, backend=backend)["x"]
        return s["x"]

    states = nested.run_batch([(3,)] * 4, num_threads=1, backend=backend)
    assert [state.ok for state in states] == [True] * 4


def test_async_programs_of_a_batch_need_no_thread(backend):
    names = set()

    @fc.function
    async def body(s, number):
        s += str(number) + fc.gen("x", max_tokens=2)
        await s.aget("x")
        names.add(threading.get_ident())

    body.run_batch([(number,) for number in range(20)], backend=backend)
    assert names == {threading.get_ident()}


# Streams -----------------------------------------------------------------------------------------


def test_chat_ui_shows_every_branch_in_one_stream(backend):
    @fc.function
    def branches(s):
        s += "Two ways: "
        for child in s.fork(2):
            child += fc.gen("way", max_tokens=6)
        s += fc.gen("own", max_tokens=3)

    async def chat_ui():
        state = await branches.astart(backend=backend)
        told: dict[tuple[int, str | None], str] = {}
        async for event in state.events():
            key = event.branch, event.var
            told[key] = told.get(key, "") + event.delta
        return state, told

    state, told = asyncio.run(chat_ui())
    assert told.keys() <= {(0, "own"), (1, "way"), (2, "way")}
    assert told.get((0, "own"), "") == state["own"]


def test_text_async_iter_gives_the_text_of_a_variable_as_it_comes(backend):
    async def read():
        state = await two_steps.astart("a", backend=backend)
        pieces = [piece async for piece in state.text_async_iter("second")]
        return "".join(pieces), await state.aget("second")

    text, value = asyncio.run(read())
    assert text == value


def test_several_readers_of_one_program_see_the_same(backend):
    async def read():
        state = await two_steps.astart("a", backend=backend)

        async def events():
            return "".join([event.delta async for event in state.events()])

        return await asyncio.gather(events(), events())

    one, other = asyncio.run(read())
    assert one == other


def test_a_reader_that_stops_early_costs_nothing(backend):
    async def read():
        state = await two_steps.astart("a", backend=backend)
        async for _ in state.events():
            break
        return await state.aget("second")

    assert isinstance(asyncio.run(read()), str)


def test_a_plain_body_is_started_beside_the_loop(backend):
    async def read():
        state = await one_step.astart("a", backend=backend)
        return "".join([p async for p in state.text_async_iter("answer")]), state.ret_value

    text, value = asyncio.run(read())
    assert text == value


# Ends before the end -----------------------------------------------------------------------------


def has(channel, kind):
    return any(isinstance(request, kind) for sent in channel.sent for request in sent)


@pytest.mark.parametrize("in_loop", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_ctrl_c_cancels_what_is_waited_for(by_hand, is_async, in_loop):
    def react(channel, request):
        if isinstance(request, Graph):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return []

    backend, channel = by_hand(react)

    @fc.function
    def plain(s):
        s += fc.gen("a")
        s["a"]

    @fc.function
    async def not_plain(s):
        s += fc.gen("a")
        await s.aget("a")

    async def cell():
        (not_plain if is_async else plain).run(backend=backend)

    def interrupted():
        if in_loop:  # as a notebook runs a cell: asyncio.run would keep the signal for itself
            with contextlib.closing(asyncio.new_event_loop()) as loop:
                loop.run_until_complete(cell())
        else:
            (not_plain if is_async else plain).run(backend=backend)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    channel.wait_for(lambda channel: has(channel, Cancel))


def test_a_timeout_ends_an_async_program_by_name(backend):
    @fc.function
    async def waits(s):
        s += "a" + fc.gen("x", max_tokens=4000, ignore_eos=True)
        await s.aget("x")

    async def run():
        await waits.arun(timeout=0.05, backend=backend)

    with pytest.raises(fc.ProgramError) as caught:
        asyncio.run(run())
    assert isinstance(caught.value.cause, fc.DeadlineExceeded)


def test_cancel_ends_a_program_that_streams(backend):
    @fc.function
    async def endless(s):
        s += "a" + fc.gen("x", max_tokens=4000, ignore_eos=True)

    async def run():
        state = await endless.astart(backend=backend)
        async for _ in state.events():
            state.cancel()

    with pytest.raises(fc.ProgramError) as caught:
        asyncio.run(run())
    assert isinstance(caught.value.cause, fc.Cancelled)
    assert fc.get_server_info(backend)["streams"] == 0


def test_a_cancelled_consumer_leaves_the_program_to_its_state(backend):
    async def run():
        state = await two_steps.astart("a", backend=backend)

        async def consume():
            async for _ in state.events():
                pass

        task = asyncio.create_task(consume())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await state.aget("second")

    assert isinstance(asyncio.run(run()), str)


# Refs that leak ----------------------------------------------------------------------------------


def leaked(backend):
    kept = []

    @fc.function
    def owner(s):
        s += "a" + fc.gen("x", max_tokens=2)
        kept.append(s.ref("x"))

    state = owner.run(backend=backend)
    return kept[0], state


USES = {
    "append": lambda s, ref: s.__iadd__(ref),
    "turn": lambda s, ref: s.user(ref),
    "join": lambda s, ref: s.__iadd__(fc.join(" ", [s.ref("own"), ref])),
    "return": lambda s, ref: [ref],
    "score": lambda s, ref: s.score(ref),
    "call": lambda s, ref: s.call(len, ref),
    "fork over": lambda s, ref: s.fork(over=ref),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_ref_in_another_program_is_an_error_that_names_both(backend, use):
    ref, state = leaked(backend)

    @fc.function
    def thief(s):
        s += "b" + fc.gen("own", max_tokens=2)
        return use(s, ref)

    with pytest.raises(fc.UsageError, match=r"owner.*thief|thief.*owner"):
        thief.run(backend=backend)
    assert ref.get() == state["x"]


def test_the_value_of_a_leaked_ref_outlives_its_program(backend):
    ref, state = leaked(backend)
    value = state["x"]
    del state
    gc.collect()
    assert ref.get() == value

    @fc.function
    def other(s):
        s += ref.get()

    assert other.run(backend=backend).text() == value


def test_a_leaked_ref_without_a_value_is_the_error_that_kept_it_from_having_one(backend):
    kept = []

    @fc.function
    def fails(s):
        s += "a" + fc.gen("x", stop_token_ids=[10**6])
        kept.append(s.ref("x"))

    with pytest.raises(fc.ProgramError):
        fails.run(backend=backend)
    with pytest.raises(fc.ProgramError, match=r"gen 'x' at .*test_async.py"):
        kept[0].get()


# Handles that nobody holds -----------------------------------------------------------------------


def test_the_children_of_a_group_that_is_dropped_are_told(by_hand):
    backend, channel = by_hand(by_hand.at_once)

    @fc.function
    def drops(s):
        s += "a"
        group = s.fork(3)
        group += fc.gen("x")
        kept = group[1]
        del group
        s += fc.gen("y")
        s["y"]
        s += fc.gen("z")
        s["z"]
        kept += "b"

    drops.run(backend=backend)
    assert sorted(n.branch for n in channel.nodes if isinstance(n, Drop)) == [1, 3]


def test_a_spawned_state_that_is_dropped_is_told(by_hand):
    backend, channel = by_hand(by_hand.at_once)

    @fc.function
    def child(s):
        s += "c" + fc.gen("x")

    @fc.function
    def spawns(s):
        state = child.spawn()
        x = state["x"]
        del state
        s += x + fc.gen("y")
        s["y"]
        s += fc.gen("z")

    spawns.run(backend=backend)
    assert [n.branch for n in channel.nodes if isinstance(n, Drop)] == [1]
