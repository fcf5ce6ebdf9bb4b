"""The link between front and engine inside one process: the same messages through queues."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from furcate.protocol.stream import EngineEvent, EngineRequest

__all__ = ["LocalLink"]


class LocalLink:
    """The engine thread calls `receive` and `send`; the other methods may be called from any.

    `deliver` gets the engine's events, on the engine's thread.
    """

    def __init__(self, deliver: Callable[[Sequence[EngineEvent]], None]) -> None:
        self._deliver = deliver
        self._inbox: SimpleQueue[Sequence[EngineRequest]] = SimpleQueue()
        self._stopped = False

    @property
    def is_stopped(self) -> bool:
        return self._stopped

    def put(self, requests: Sequence[EngineRequest]) -> None:
        """The front's side."""
        self._inbox.put(requests)

    def wake(self) -> None:
        self._inbox.put(())

    def stop(self) -> None:
        self._stopped = True
        self.wake()

    def receive(self, block: bool) -> list[EngineRequest]:
        """What has arrived. With `block` it first waits for a message or a wake-up."""
        requests: list[EngineRequest] = []
        if block:
            requests += self._inbox.get()
        while True:
            try:
                requests += self._inbox.get_nowait()
            except Empty:
                return requests

    def send(self, events: Sequence[EngineEvent]) -> None:
        self._deliver(events)
