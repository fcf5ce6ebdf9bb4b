"""The two ends of the link between front and engine, and the queue that replaces it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zmq

from furcate.protocol.message import Usage
from furcate.protocol.stream import CancelStream, EngineEvent, StreamEnded
from furcate.runtime.transport.address import address_of
from furcate.runtime.transport.link import LINK_SUFFIX, EngineEnd, FrontEnd, link_path
from furcate.runtime.transport.local import LocalLink

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Notes:
    def __init__(self) -> None:
        self.events: list[EngineEvent] = []
        self.lost = asyncio.Event()
        self.messages: list[str] = []
        self.news = asyncio.Event()

    def engine_events(self, events: list[EngineEvent]) -> None:
        self.events += events
        self.news.set()

    def engine_lost(self, message: str) -> None:
        self.messages.append(message)
        self.lost.set()


@pytest.fixture
def context():
    context = zmq.Context()
    yield context
    context.term()


def with_front(
    context: zmq.Context[zmq.Socket[bytes]],
    path: Path,
    scene: Callable[[FrontEnd, Notes], Coroutine[None, None, None]],
) -> None:
    async def play() -> None:
        notes = Notes()
        front = FrontEnd(context, path, asyncio.get_running_loop(), notes)
        try:
            await asyncio.wait_for(scene(front, notes), 5)
        finally:
            front.close()
            front.close()

    asyncio.run(play())


def test_requests_and_events_cross_in_order(context, tmp_path) -> None:
    path = tmp_path / "link"

    async def scene(front: FrontEnd, notes: Notes) -> None:
        engine = EngineEnd(context, path)
        engine.send([StreamEnded(0, Usage())])
        await notes.news.wait()
        for number in range(100):
            front.send([CancelStream(number), CancelStream(number)])
        seen: list[int] = []
        while len(seen) < 200:
            requests = await asyncio.to_thread(engine.receive, True)
            seen += [r.stream for r in requests if isinstance(r, CancelStream)]
        assert seen == [number for number in range(100) for _ in range(2)]
        assert engine.receive(False) == []
        engine.close()

    with_front(context, path, scene)


def test_a_wake_up_and_a_stop_end_the_wait(context, tmp_path) -> None:
    path = tmp_path / "link"

    async def scene(front: FrontEnd, notes: Notes) -> None:
        engine = EngineEnd(context, path)
        for wake in (engine.wake, engine.stop):
            waiting = asyncio.create_task(asyncio.to_thread(engine.receive, True))
            wake()
            assert await waiting == []
        assert engine.is_stopped
        engine.close()

    with_front(context, path, scene)


def test_an_engine_that_leaves_is_lost_after_its_last_words(context, tmp_path) -> None:
    path = tmp_path / "link"

    async def scene(front: FrontEnd, notes: Notes) -> None:
        other = zmq.Context()  # its end is the end of a process, as far as the front can see
        engine = EngineEnd(other, path)
        engine.send([StreamEnded(0, Usage())])
        await notes.news.wait()
        engine._socket.setsockopt(zmq.LINGER, 1000)
        engine.send([StreamEnded(1, Usage())])
        engine._socket.close()
        other.term()
        await notes.lost.wait()
        assert [event.stream for event in notes.events if isinstance(event, StreamEnded)] == [0, 1]
        front.send([CancelStream(1)])  # goes nowhere, and says nothing

    with_front(context, path, scene)


def test_a_frame_that_is_no_message_means_a_broken_engine(context, tmp_path) -> None:
    path = tmp_path / "link"

    async def scene(front: FrontEnd, notes: Notes) -> None:
        vandal = context.socket(zmq.PAIR)
        vandal.connect(address_of(path))
        vandal.send(b"\x93\x00")
        await notes.lost.wait()
        assert "malformed frame" in notes.messages[0]
        vandal.close(0)

    with_front(context, path, scene)


def test_a_message_that_its_handler_fails_on_costs_no_other(context, tmp_path) -> None:
    path = tmp_path / "link"

    async def scene(front: FrontEnd, notes: Notes) -> None:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, report: faults.append(report["exception"])
        )
        take = notes.engine_events

        def stumble(events: list[EngineEvent]) -> None:
            notes.engine_events = take  # type: ignore[method-assign]
            raise ZeroDivisionError("just once")

        notes.engine_events = stumble  # type: ignore[method-assign]
        engine = EngineEnd(context, path)
        for number in range(3):
            engine.send([StreamEnded(number, Usage())])
        while len(notes.events) < 2:
            notes.news.clear()
            await notes.news.wait()
        assert [event.stream for event in notes.events if isinstance(event, StreamEnded)] == [1, 2]
        assert [type(fault) for fault in faults] == [ZeroDivisionError]
        engine.close()

    with_front(context, path, scene)


def test_links_of_engines_in_a_row_have_names_of_their_own() -> None:
    socket = Path("/run/serve.sock")
    names = [link_path(socket, number).name for number in range(12)]
    assert len(set(names)) == 10
    assert names[0] == names[10] == f"serve.sock{LINK_SUFFIX}"
    assert {len(name) for name in names} == {len(names[0])}


def test_the_queue_keeps_order_wakes_and_stops() -> None:
    delivered: list[object] = []
    link = LocalLink(delivered.extend)
    link.put([CancelStream(1)])
    link.put([CancelStream(2), CancelStream(3)])
    assert link.receive(True) == [CancelStream(1), CancelStream(2), CancelStream(3)]
    assert link.receive(False) == []
    threading.Timer(0.001, link.wake).start()
    assert link.receive(True) == []
    link.stop()
    assert link.is_stopped
    assert link.receive(True) == []
    link.send([StreamEnded(1, Usage())])
    assert delivered == [StreamEnded(1, Usage())]
