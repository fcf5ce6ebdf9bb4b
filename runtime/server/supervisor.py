"""Keeps an engine running: one process after the other, each with a link of its own.

Tells its handler what the engine says, that it has ended and another is on its way, and at last
that none will follow. What an engine knew, and who tells it to the next one, is the handler's
matter.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from furcate.errors import EngineLost, FurcateError
from furcate.protocol.stream import EngineReady
from furcate.runtime.transport.link import FrontEnd, link_path

from .allowance import Allowance
from .engine_process import EngineProcess
from .flight_log import flight_log_path, read_flights

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from furcate.protocol.stream import EngineEvent, EngineRequest
    from furcate.runtime.clock import Clock
    from furcate.runtime.config import Config
    from furcate.runtime.transport.context import Context

__all__ = ["Supervisor", "SupervisorHandler"]

log = logging.getLogger(__name__)

LAST_WORDS_S = 0.5  # for a process that ended to be told from a connection that did


class SupervisorHandler(Protocol):
    """All of it is called on the event loop."""

    def engine_ready(self, ready: EngineReady) -> None:
        """An engine can be used; it knows nothing yet."""

    def engine_events(self, events: list[EngineEvent]) -> None: ...

    def engine_ended(self, message: str, in_flight: frozenset[int] | None) -> None:
        """Nothing more comes of that engine. Another one is being started. `in_flight`: streams in
        the forwards that it did not get to the end of, where it has left word of them."""


class Supervisor:
    """To be used on the loop's thread only."""

    def __init__(
        self,
        config: Config,
        context: Context,
        socket: Path,
        clock: Clock,
        handler: SupervisorHandler,
    ) -> None:
        self._config = config
        self._context = context
        self._socket = socket
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        server = config.server
        self._restarts = Allowance(server.max_restarts, server.restart_window_s, clock)
        self._link: FrontEnd | None = None
        self._process: EngineProcess | None = None
        self.is_ready = False  # the engine that runs now
        self._was_ready = False  # any
        self._num_engines = 0
        self._in_flight: frozenset[int] | None = None  # as the last engine ended

    async def run(self) -> FurcateError:
        """Why the last engine has ended. Cancelled, it ends the one that runs."""
        while True:
            error = await self._run_one()
            if not self._was_ready:
                return error  # a second one would not start either
            if not self._config.server.replay:
                return EngineLost(f"{error}; start `furcate serve` again")
            if not self._restarts.take():
                return EngineLost(self._spent(error))
            log.warning("%s; another one is started, and programs go on with it", error)
            self._handler.engine_ended(str(error), self._in_flight)

    def send(self, requests: Sequence[EngineRequest]) -> None:
        if self._link is not None:
            self._link.send(requests)

    @property
    def engine_pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    # What the link reports -----------------------------------------------------------------------

    def engine_events(self, events: list[EngineEvent]) -> None:
        if self.is_ready:
            self._handler.engine_events(events)
        elif isinstance(events[0], EngineReady):
            self.is_ready = self._was_ready = True
            self._handler.engine_ready(events[0])
            if events[1:]:
                self._handler.engine_events(events[1:])

    def engine_lost(self, message: str) -> None:
        # If the process has ended, that is the better explanation: it gets a moment to be noticed.
        if self._process is not None:
            self._loop.call_later(LAST_WORDS_S, self._process.give_up, message)

    # Inside --------------------------------------------------------------------------------------

    async def _run_one(self) -> FurcateError:
        """Starts an engine and waits for its end; nothing of it is left."""
        path = link_path(self._socket, self._num_engines)
        self._num_engines += 1
        self._link = FrontEnd(self._context, path, self._loop, self)
        try:
            self._process = await EngineProcess.start(self._config, path)
            try:
                return await self._process.ended()
            finally:
                await self._process.stop()
        finally:
            self.is_ready = False
            self._process = None
            self._link.close()
            self._link = None
            flights = flight_log_path(path)
            self._in_flight = read_flights(flights)
            for left in (path, flights):
                with suppress(FileNotFoundError):
                    left.unlink()

    def _spent(self, error: FurcateError) -> str:
        limit, window_s = self._restarts.limit, self._restarts.window_s
        return (
            f"the engine has ended more than {limit} times within {window_s:g} s (--max-restarts, "
            f"--restart-window-s), at last: {error}; start `furcate serve` again"
        )
