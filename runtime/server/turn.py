"""Drives a Front on an event loop: what came of one turn leaves together, at the turn's end.

Knows the loop and the clock, neither sockets nor what a message means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Hashable, Sequence

    from furcate.protocol.message import Event, Request
    from furcate.protocol.stream import EngineEvent, EngineRequest
    from furcate.runtime.clock import Clock
    from furcate.runtime.graph.front import Front

__all__ = ["FrontDriver"]


class FrontDriver:
    """To be used on the loop's thread only."""

    def __init__(
        self,
        front: Front,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        send_engine: Callable[[list[EngineRequest]], None],
        send_client: Callable[[Hashable, list[Event]], None],
    ) -> None:
        self._front = front
        self._loop = loop
        self._clock = clock
        self._send_engine = send_engine
        self._send_client = send_client
        self._flushing: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def connect(self, client: Hashable) -> None:
        self._front.connect(client)

    def received(self, client: Hashable, requests: Sequence[Request]) -> None:
        self._front.handle(client, requests, self._clock.now())
        self._flush_later()

    def engine_events(self, events: Sequence[EngineEvent]) -> None:
        self._front.handle_engine(events, self._clock.now())
        self._flush_later()

    def disconnect(self, client: Hashable) -> None:
        self._front.disconnect(client)
        self._flush_later()

    def overloaded(self, client: Hashable, programs: set[int]) -> None:
        """The client does not read; what was to be told of these programs is lost."""
        self._front.overload(client, programs)
        self._flush_later()

    def engine_ended(self, message: str, in_flight: frozenset[int] | None = None) -> None:
        """Another engine follows: its EngineReady comes as an event."""
        self._front.suspend(message, in_flight)
        self._flush_later()

    def engine_lost(self, message: str) -> None:
        """Tells every client at once, for this is the end; nothing goes to the engine any more."""
        self._front.engine_lost(message)
        self.close()
        for client, events in self._front.drain().to_clients.items():
            self._send_client(client, events)

    def close(self) -> None:
        """Nothing is sent by itself any more. Callable twice."""
        self._closed = True
        if self._flushing is not None:
            self._flushing.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def _flush_later(self) -> None:
        if self._flushing is None and not self._closed:
            self._flushing = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        mail = self._front.drain()
        if mail.to_engine:
            self._send_engine(mail.to_engine)
        for client, events in mail.to_clients.items():
            self._send_client(client, events)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._front.next_deadline()
        if deadline is not None:
            delay = max(0.0, deadline - self._clock.now())
            self._timer = self._loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._front.tick(self._clock.now())
        self._flush_later()
