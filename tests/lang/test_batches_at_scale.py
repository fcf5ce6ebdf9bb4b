"""Large batches and many programs at once: their order, their threads and what they keep."""

import asyncio
import threading

import pytest

import furcate as fc
from furcate.errors import EngineLost
from furcate.protocol.message import Graph

pytestmark = pytest.mark.timeout(30)


@fc.function
def straight(s, word):
    s += f"{word} " + fc.gen("a")


@fc.function
def forces(s, word):
    s += f"{word} " + fc.gen("a")
    return s["a"]


@fc.function
async def awaits(s, word):
    s += f"{word} " + fc.gen("a")
    return await s.aget("a")


def items(count):
    return [(i,) for i in range(count)]


class Held:
    """Answers a program when it is told to."""

    def __init__(self, by_hand):
        self._by_hand = by_hand
        self._requests = {}
        self.backend, self.channel = by_hand(self._react)

    def _react(self, channel, request):
        if isinstance(request, Graph):
            self._requests.setdefault(request.program, []).append(request)
        return []

    def answer(self, program):
        nodes = [node for each in self._requests[program] for node in each.nodes]
        self.channel.deliver(
            [*self._by_hand.values(program, nodes), self._by_hand.finished(program)]
        )


def test_results_come_as_their_programs_end_and_say_which_item_they_are(by_hand):
    held = Held(by_hand)
    results = straight.run_batch(items(4), backend=held.backend, generator_style="as_finished")
    order = [2, 0, 3, 1]

    def answer_the_first():
        held.channel.wait_for(lambda channel: len(channel.nodes) >= 8)
        held.answer(order[0])

    threading.Thread(target=answer_the_first).start()
    found = [next(results)]
    for number in order[1:]:
        held.answer(number)
        found.append(next(results))
    assert [state.index for state in found] == order
    assert [state["a"] for state in found] == ["x"] * 4
    assert next(results, None) is None


def test_results_in_order_wait_for_those_before_them(by_hand):
    held = Held(by_hand)
    results = straight.run_batch(items(3), backend=held.backend, generator_style=True)

    def answer_backwards():
        held.channel.wait_for(lambda channel: len(channel.nodes) >= 6)
        for number in (2, 1, 0):
            held.answer(number)

    threading.Thread(target=answer_backwards).start()
    assert [state.index for state in results] == [0, 1, 2]


@pytest.mark.parametrize("num_threads", [1, 4])
def test_a_batch_of_bodies_that_force_gives_each_item_once_as_it_finishes(num_threads):
    with fc.Mock(lambda call: call.text) as backend:
        results = forces.run_batch(
            items(50), backend=backend, num_threads=num_threads, generator_style="as_finished"
        )
        states = list(results)
    assert sorted(state.index for state in states) == list(range(50))
    assert all(state.ret_value == f"{state.index} " for state in states)


def test_failed_items_come_as_they_fail_or_end_the_batch():
    @fc.function
    def program(s, number):
        if number == 1:
            raise LookupError("mine")
        s += f"{number} " + fc.gen("a")

    def reply(call):
        if call.text == "2 ":
            raise LookupError("theirs")
        return "R"

    with fc.Mock(reply) as backend:
        states = list(
            program.run_batch(
                items(4), backend=backend, on_error="return", generator_style="as_finished"
            )
        )
        assert {state.index: state.ok for state in states} == {0: True, 1: False, 2: False, 3: True}
        with pytest.raises((LookupError, fc.ProgramError)):
            list(program.run_batch(items(4), backend=backend, generator_style="as_finished"))


def test_an_engine_that_is_lost_ends_every_item(by_hand):
    held = Held(by_hand)
    results = straight.run_batch(
        items(3), backend=held.backend, on_error="return", generator_style="as_finished"
    )

    def lose():
        held.channel.wait_for(lambda channel: len(channel.nodes) >= 6)
        held.channel.lose(EngineLost("gone"))

    threading.Thread(target=lose).start()
    assert [type(state.error().cause) for state in results] == [EngineLost] * 3


def test_a_time_limit_ends_an_item_that_nothing_is_heard_of(by_hand, monkeypatch):
    monkeypatch.setattr("furcate.lang._results._GRACE_S", 0.0)
    monkeypatch.setattr("furcate.lang._batch._CHECK_S", 0.001)
    held = Held(by_hand)
    (state,) = straight.run_batch(
        items(1),
        backend=held.backend,
        timeout=0.001,
        on_error="return",
        generator_style="as_finished",
    )
    assert isinstance(state.error().cause, fc.DeadlineExceeded)


def test_a_generator_style_that_does_not_exist_is_named():
    with fc.Mock("R") as backend, pytest.raises(fc.UsageError, match="'as_finished', got 'fast'"):
        straight.run_batch(items(1), backend=backend, generator_style="fast")


@pytest.mark.parametrize("program", [straight, forces])
def test_nobody_records_far_ahead_of_the_results_that_were_taken(program):
    begun = []
    counted = fc.function(lambda s, word: begun.append(word) or program._body(s, word))
    with fc.Mock("R") as backend:
        results = counted.run_batch(
            items(3000), backend=backend, generator_style=True, num_threads=4
        )
        for number, _ in enumerate(results):
            assert len(begun) <= number + 1024 + 4
    assert sorted(begun) == list(range(3000))


def test_async_bodies_in_a_batch_come_in_the_order_that_is_asked_for():
    with fc.Mock(lambda call: call.text) as backend:
        states = awaits.run_batch(items(20), backend=backend)
        assert [state.index for state in states] == list(range(20))
        late = awaits.run_batch(items(20), backend=backend, generator_style="as_finished")
        assert sorted(state.index for state in late) == list(range(20))


def test_a_straight_batch_needs_no_thread_of_its_own():
    with fc.Mock("R") as backend:
        straight.run("once", backend=backend)
        num_threads = threading.active_count()
        for state in straight.run_batch(items(2000), backend=backend, generator_style=True):
            assert state["a"] == "R"
            assert threading.active_count() <= num_threads


def threads_of_aruns(program, count):
    """How many there are before so many `arun`s on one loop, and at the most meanwhile."""
    with fc.Mock(lambda call: call.text) as backend:
        program.run("once", backend=backend)
        num_threads = most = threading.active_count()

        async def one(number):
            nonlocal most
            state = await program.arun(number, backend=backend)
            most = max(most, threading.active_count())
            return state.ret_value

        async def all_of_them():
            return await asyncio.gather(*map(one, range(count)))

        assert asyncio.run(all_of_them()) == [f"{i} " for i in range(count)]
    return num_threads, most


def test_a_thousand_async_runs_on_one_loop_need_no_thread():
    num_threads, most = threads_of_aruns(awaits, 1000)
    assert most <= num_threads


def test_a_thousand_async_runs_wait_side_by_side(by_hand):
    """Each waits for its value until all are sent."""
    held = Held(by_hand)

    async def all_of_them():
        tasks = [asyncio.create_task(awaits.arun(i, backend=held.backend)) for i in range(1000)]
        while len(held._requests) < 1000:
            await asyncio.sleep(0)
        num_threads = threading.active_count()
        for number in range(1000):
            held.channel.deliver(by_hand.values(number, held._requests[number][0].nodes))
        while sum(len(each) for each in held._requests.values()) < 2000:
            await asyncio.sleep(0)
        for number in range(1000):
            held.channel.deliver([by_hand.finished(number)])
        return await asyncio.gather(*tasks), num_threads

    before = threading.active_count()
    states, num_threads = asyncio.run(all_of_them())
    assert all(state.ret_value == "x" for state in states)
    assert num_threads <= before + 1  # the one that speaks for dropped programs


def test_bodies_that_are_not_async_share_a_few_threads():
    num_threads, most = threads_of_aruns(forces, 300)
    assert most <= num_threads + 32


def test_items_of_a_batch_without_a_seed_have_seeds_of_their_own():
    with fc.Mock("R") as backend:
        one = [state.seed for state in straight.run_batch(items(20), backend=backend)]
        other = [state.seed for state in straight.run_batch(items(20), backend=backend)]
    assert len(set(one)) == len(set(other)) == 20
    assert one != other
