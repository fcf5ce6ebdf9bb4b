"""The engine's loop: no step too many, and no wait while there is work."""

from __future__ import annotations

import pytest

from furcate.protocol.message import PROTOCOL_VERSION
from furcate.protocol.stream import CancelStream, EngineReady
from furcate.runtime.server.engine_loop import run_engine

READY = EngineReady(PROTOCOL_VERSION, "test", "f", 1, 1)


class Link:
    """Delivers what a test has put there; stops when it is asked to wait for more."""

    def __init__(self, *batches: list[CancelStream]) -> None:
        self.batches = list(batches)
        self.is_stopped = False
        self.waits: list[bool] = []
        self.sent: list[list[object]] = []

    def receive(self, block: bool):
        self.waits.append(block)
        if self.batches:
            return self.batches.pop(0)
        self.is_stopped = block
        return []

    def send(self, events) -> None:
        self.sent.append(list(events))


class Steps:
    """Each request is two steps of work."""

    def __init__(self) -> None:
        self.work = 0

    def handle(self, requests) -> None:
        self.work += 2 * len(requests)

    @property
    def has_work(self) -> bool:
        return self.work > 0

    def step(self):
        if not self.work:
            return []
        self.work -= 1
        return [READY] if self.work % 2 == 0 else []

    def ready(self) -> EngineReady:
        return READY

    def close(self) -> None:
        pass


def test_it_says_that_it_is_ready_and_waits_only_when_there_is_nothing_to_do() -> None:
    link = Link([CancelStream(1)])
    run_engine(Steps(), link)
    assert link.waits == [True, False, True]
    assert link.sent == [[READY], [READY]]


def test_nothing_is_sent_for_a_step_without_events() -> None:
    link = Link([CancelStream(1), CancelStream(2)])
    run_engine(Steps(), link)
    assert len(link.sent) == 3  # ready, and every second of four steps


def test_an_exception_of_a_step_is_the_callers() -> None:
    class Broken(Steps):
        def step(self):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        run_engine(Broken(), Link([CancelStream(1)]))
