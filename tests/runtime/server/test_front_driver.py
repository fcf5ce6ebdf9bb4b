"""What came of one turn leaves together, and deadlines pass on the loop's time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from furcate.protocol.message import Cancel, Finished, Usage
from furcate.protocol.stream import CancelStream
from furcate.runtime.clock import MonotonicClock
from furcate.runtime.graph.outbox import Outbox
from furcate.runtime.server.turn import FrontDriver

if TYPE_CHECKING:
    from furcate.runtime.graph.front import Front


class Puppet:
    """A front that answers each request with one event and one order to the engine."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.deadline: float | None = None
        self.ticks = 0

    def handle(self, client, requests, now) -> None:
        for request in requests:
            self.outbox.tell(client, Finished(request.program, Usage()))
            self.outbox.ask(CancelStream(request.program))

    def engine_lost(self, message) -> None:
        self.outbox.tell("a", Finished(0, Usage(), "engine_lost", message))
        self.outbox.ask(CancelStream(0))

    def suspend(self, message, in_flight=None) -> None:
        self.outbox.tell("a", Finished(0, Usage(), "crash_suspect", message))

    def disconnect(self, client) -> None:
        self.outbox.ask(CancelStream(99))

    def tick(self, now) -> None:
        self.ticks += 1
        self.deadline = None

    def next_deadline(self) -> float | None:
        return self.deadline

    def drain(self) -> Outbox:
        return self.outbox.take()


class Stage:
    def __init__(self) -> None:
        self.front = Puppet()
        self.clock = MonotonicClock()
        self.engine: list[int] = []
        self.clients: list[tuple[object, int]] = []
        self.driver = FrontDriver(
            cast("Front", self.front),
            asyncio.get_running_loop(),
            self.clock,
            lambda requests: self.engine.append(len(requests)),
            lambda client, events: self.clients.append((client, len(events))),
        )


def test_one_send_for_each_client_and_one_for_the_engine_a_turn() -> None:
    async def play() -> None:
        stage = Stage()
        for number in range(5):
            stage.driver.received("a", [Cancel(number)])
            stage.driver.received("b", [Cancel(number), Cancel(number)])
        assert stage.clients == []
        await asyncio.sleep(0)
        assert stage.clients == [("a", 5), ("b", 10)]
        assert stage.engine == [15]
        stage.driver.close()

    asyncio.run(play())


def test_a_deadline_is_kept_without_any_message() -> None:
    async def play() -> None:
        stage = Stage()
        stage.front.deadline = stage.clock.now() + 0.01
        stage.driver.received("a", [Cancel(1)])
        async with asyncio.timeout(2):
            while not stage.front.ticks:
                await asyncio.sleep(0.001)
        assert stage.front.ticks == 1
        stage.driver.close()

    asyncio.run(play())


def test_after_an_engine_that_is_followed_by_another_the_front_goes_on() -> None:
    async def play() -> None:
        stage = Stage()
        stage.driver.engine_ended("killed")
        assert stage.clients == []
        await asyncio.sleep(0)
        assert stage.clients == [("a", 1)]
        stage.driver.received("b", [Cancel(1)])
        await asyncio.sleep(0)
        assert stage.clients == [("a", 1), ("b", 1)]
        assert stage.engine == [1]
        stage.driver.close()

    asyncio.run(play())


def test_the_news_of_a_lost_engine_leave_at_once_and_are_the_last() -> None:
    async def play() -> None:
        stage = Stage()
        stage.driver.received("a", [Cancel(1)])
        stage.driver.engine_lost("it is gone")
        assert stage.clients == [("a", 2)]
        stage.driver.disconnect("a")
        await asyncio.sleep(0.01)
        assert stage.clients == [("a", 2)]
        assert stage.engine == []

    asyncio.run(play())
