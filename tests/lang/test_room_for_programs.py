"""A program that the other side has no room for waits here, and everything still happens once."""

from __future__ import annotations

import threading
from queue import SimpleQueue

import pytest

import furcate as fc
from furcate.errors import Overloaded
from furcate.lang.backend.window import CHUNK
from furcate.protocol.batch import unpack
from furcate.protocol.message import (
    PROGRAM_BYTES,
    PROTOCOL_VERSION,
    Batch,
    Cancel,
    Finished,
    Graph,
    Release,
    Welcome,
)

pytestmark = pytest.mark.timeout(20)


@fc.function
def asks(s, text=""):
    s += text
    s += fc.gen("a")


class NarrowChannel:
    """Counts what runs and refuses nothing; a thread of its own answers, or the test does."""

    def __init__(self, by_hand, max_programs=None, max_bytes=None, *, answers: bool = True):
        self._by_hand = by_hand
        self._welcome = Welcome(PROTOCOL_VERSION, "narrow", "none", 4096, max_programs, max_bytes)
        self._answers = answers
        self._jobs: SimpleQueue[int | None] = SimpleQueue()
        self.order: list[int] = []
        self.cancelled: list[Cancel] = []
        self.running: dict[int, list[object]] = {}
        self.most = 0
        self.lock = threading.Lock()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def open(self, deliver, lost):
        self.deliver = deliver
        return self._welcome

    def send(self, requests):
        for each in requests:
            for request in unpack(each) if isinstance(each, Batch) else (each,):
                self.take(request)

    def take(self, request):
        if isinstance(request, Graph):
            with self.lock:
                if request.epoch == 0:
                    self.order.append(request.program)
                self.running.setdefault(request.program, []).extend(request.nodes)
                self.most = max(self.most, len(self.running))
            if request.done and self._answers:
                self._jobs.put(request.program)
        elif isinstance(request, Release):
            for program in request.programs:
                self.running.pop(program, None)
        elif isinstance(request, Cancel):
            self.cancelled.append(request)

    def finish(self, program: int) -> None:
        with self.lock:
            nodes = self.running.pop(program, None)
        if nodes is not None:
            self.deliver([*self._by_hand.values(program, nodes), self._by_hand.finished(program)])

    def close(self):
        self._jobs.put(None)
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _work(self):
        while (program := self._jobs.get()) is not None:
            self.finish(program)


@pytest.fixture
def narrow(by_hand):
    sessions = []

    def make(max_programs=None, max_bytes=None, **options):
        channel = NarrowChannel(by_hand, max_programs, max_bytes, **options)
        sessions.append(fc.Session(channel))
        return sessions[-1], channel

    yield make
    for session in sessions:
        session.close()


def test_a_batch_flows_through_a_window_in_order(narrow) -> None:
    backend, channel = narrow(max_programs=7)
    states = asks.run_batch([()] * 3_000, backend=backend)
    assert [state["a"] for state in states] == ["x"] * 3_000
    assert channel.most <= 7
    assert channel.order == list(range(3_000))


def test_the_bytes_of_what_runs_are_bounded_too(narrow) -> None:
    backend, channel = narrow(max_bytes=4 * (PROGRAM_BYTES + 100))
    texts = [f"{number:04}" * 25 for number in range(500)]
    states = asks.run_batch([(text,) for text in texts], backend=backend)
    assert all(state["a"] == "x" for state in states)
    assert channel.most <= 4


def test_threads_that_run_programs_at_once_share_the_window(narrow) -> None:
    backend, channel = narrow(max_programs=3)
    results: list[str] = []

    def work() -> None:
        for _ in range(40):
            results.append(asks.run(backend=backend)["a"])

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["x"] * 480
    assert channel.most <= 3


def test_bodies_that_wait_for_values_get_through(narrow) -> None:
    backend, channel = narrow(max_programs=2, answers=False)

    @fc.function
    def forces(s, number):
        s += fc.gen("a")
        return s["a"]

    # Nobody answers before the body has returned, and it does not return before the answer.
    def answer(program: int, nodes) -> None:
        backend._deliver(channel._by_hand.values(program, nodes))
        channel.finish(program)

    real_send = channel.send

    def send(requests):
        real_send(requests)
        for request in requests:
            if isinstance(request, Graph) and request.nodes:
                threading.Thread(target=answer, args=(request.program, request.nodes)).start()

    channel.send = send
    states = forces.run_batch([(n,) for n in range(50)], backend=backend)
    assert [state.ret_value for state in states] == ["x"] * 50


def test_programs_inside_programs_do_not_wait_for_each_other(narrow) -> None:
    backend, _ = narrow(max_programs=1)

    @fc.function
    def outer(s):
        s += "before"
        s._program.flush()
        inner = asks.run(backend=backend)
        s += inner["a"] + fc.gen("b")

    assert outer.run(backend=backend)["b"] == "x"


def test_a_program_that_is_cancelled_before_its_turn_is_never_sent(narrow) -> None:
    backend, channel = narrow(max_programs=1, answers=False)
    first = asks.run(backend=backend, stream=True)
    _wait_until(lambda: channel.order == [0])
    second = asks.run(backend=backend, stream=True)
    third = asks.run(backend=backend, stream=True)
    _wait_until(lambda: backend._window.num_waiting == 2)
    second.cancel()
    channel.finish(0)
    assert first["a"] == "x"
    _wait_until(lambda: channel.order == [0, 2])
    channel.finish(2)
    assert third["a"] == "x"
    with pytest.raises(fc.ProgramError):
        second["a"]
    assert [cancel.program for cancel in channel.cancelled] == []


def test_a_program_that_nobody_holds_any_more_is_never_sent(narrow) -> None:
    backend, channel = narrow(max_programs=1, answers=False)
    first = asks.run(backend=backend, stream=True)
    _wait_until(lambda: channel.order == [0])
    second = asks.run(backend=backend, stream=True)
    _wait_until(lambda: backend._window.num_waiting == 1)
    for thread in threading.enumerate():
        if thread.name == "furcate-program":
            thread.join(5)
    del second
    _wait_until(lambda: backend._window.num_waiting == 0)
    channel.finish(0)
    assert first["a"] == "x"
    assert channel.order == [0]


def test_a_program_that_is_refused_all_the_same_can_be_run_again(narrow) -> None:
    backend, channel = narrow(answers=False)
    state = asks.run(backend=backend, stream=True)
    _wait_until(lambda: channel.order == [0])
    channel.deliver([Finished(0, None, "overloaded", "too many")])
    with pytest.raises(fc.ProgramError) as caught:
        state["a"]
    assert isinstance(caught.value.__cause__, Overloaded)
    assert caught.value.__cause__.retryable


def test_what_is_let_go_together_is_bounded(narrow) -> None:
    backend, channel = narrow(max_programs=1_000, answers=False)
    sizes: list[int] = []
    real_send = channel.send

    def send(requests):
        sizes.append(sum(isinstance(request, Graph) for request in requests))
        real_send(requests)

    channel.send = send
    states = [asks.run(backend=backend, stream=True) for _ in range(20)]
    _wait_until(lambda: len(channel.order) == 20)
    for program in range(20):
        channel.finish(program)
    assert [state["a"] for state in states] == ["x"] * 20
    assert max(sizes) <= CHUNK


def _wait_until(condition) -> None:
    pause = threading.Event()
    for _ in range(4_000):
        if condition():
            return
        pause.wait(0.002)
    raise AssertionError("it did not come true in time")
