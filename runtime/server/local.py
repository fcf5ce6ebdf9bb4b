"""Front and engine in one process: a thread each, queues between them, no sockets.

The engine thread builds the scheduler itself, so that whatever a library ties to a thread belongs
to the right one. Installs no signal handlers: the process is the user's.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

import uvloop

from furcate.errors import EngineLost, FurcateError
from furcate.runtime.clock import MonotonicClock
from furcate.runtime.transport.local import LocalLink

from .engine_loop import run_engine
from .turn import FrontDriver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from furcate.protocol.message import Event, Request
    from furcate.protocol.stream import EngineEvent, EngineReady
    from furcate.runtime.graph.front import Front

    from .engine_loop import Steps

__all__ = ["LocalRuntime"]

log = logging.getLogger(__name__)

CLIENT = 0  # the only one


class LocalRuntime:
    """`deliver` and `lost` are called on the front's thread; `lost` at most once, as the last."""

    def __init__(
        self,
        build: Callable[[Callable[[], None]], Steps],
        make_front: Callable[[EngineReady], Front],
        deliver: Callable[[Sequence[Event]], None],
        lost: Callable[[FurcateError], None],
    ) -> None:
        self._build = build
        self._make_front = make_front
        self._deliver = deliver
        self._lost = lost
        self._started: Future[EngineReady] = Future()
        self._driver: FrontDriver | None = None
        self._ended = False
        self._loop = uvloop.new_event_loop()
        self._loop.set_exception_handler(self._loop_failed)
        self._link = LocalLink(self._from_engine)
        self._io = threading.Thread(target=self._run_front, name="furcate-front", daemon=True)
        self._engine = threading.Thread(target=self._run_engine, name="furcate-engine", daemon=True)

    def start(self) -> None:
        """Returns when the engine is ready; raises what kept it from it, with nothing left over."""
        self._io.start()
        self._engine.start()
        try:
            ready = self._started.result()
            self._driver = FrontDriver(
                self._make_front(ready),
                self._loop,
                MonotonicClock(),
                self._link.put,
                lambda _, events: self._deliver(events),
            )
            self._driver.connect(CLIENT)
        except BaseException:
            self.close()
            raise

    def send(self, requests: Sequence[Request]) -> None:
        """From any thread; does not wait."""
        with suppress(RuntimeError):  # the loop has been closed meanwhile
            self._loop.call_soon_threadsafe(self._from_client, requests)

    def close(self) -> None:
        """Ends both threads and waits for them, the step that runs included. Callable twice."""
        self._link.stop()
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        if self._io.ident is None:
            self._loop.close()
        for thread in (self._engine, self._io):
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join()

    def _run_front(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            if self._driver is not None:
                self._driver.close()
            self._loop.close()

    def _run_engine(self) -> None:
        scheduler: Steps | None = None
        try:
            scheduler = self._build(self._link.wake)
            run_engine(scheduler, self._link)
        except BaseException as error:
            self._engine_failed(error)
        finally:
            if scheduler is not None:
                scheduler.close()

    def _engine_failed(self, error: BaseException) -> None:
        if not self._started.done():
            self._started.set_exception(error)
            return
        log.error("the engine has failed", exc_info=error)
        message = f"the engine has failed: {type(error).__name__}: {error}"
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end, message)

    def _from_engine(self, events: Sequence[EngineEvent]) -> None:
        if not self._started.done():
            self._started.set_result(events[0])  # type: ignore[arg-type]
            return
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._handle_engine, events)

    def _handle_engine(self, events: Sequence[EngineEvent]) -> None:
        try:
            self._front_driver.engine_events(events)
        except Exception as error:
            self._front_failed(error)

    def _from_client(self, requests: Sequence[Request]) -> None:
        try:
            self._front_driver.received(CLIENT, requests)
        except Exception as error:
            self._front_failed(error)

    def _loop_failed(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        self._front_failed(
            error if isinstance(error, Exception) else RuntimeError(context.get("message"))
        )

    def _front_failed(self, error: Exception) -> None:
        log.error("the front has failed", exc_info=error)
        self._end(f"the front has failed: {type(error).__name__}: {error}")

    def _end(self, message: str) -> None:
        """Fails what runs, then everything. The threads end in `close`."""
        if self._ended:
            return
        self._ended = True
        self._link.stop()
        try:
            self._front_driver.engine_lost(message)
        finally:
            self._lost(EngineLost(message))

    @property
    def _front_driver(self) -> FrontDriver:
        assert self._driver is not None, "start() has returned before anything arrives"
        return self._driver
