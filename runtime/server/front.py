"""The front process: clients on one side, the engine process on the other, a Front between them.

Owns the clients' socket, the supervisor of the engine and the order in which they come and go.
Knows no program.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

from furcate.errors import BackendError, FurcateError
from furcate.runtime.clock import MonotonicClock
from furcate.runtime.graph.front import Front
from furcate.runtime.graph.limits import Limits, limits_of
from furcate.runtime.transport.address import address_of, default_folder, path_of, prepare_folder
from furcate.runtime.transport.client import Client
from furcate.runtime.transport.context import open_context
from furcate.runtime.transport.link import LINK_SUFFIX
from furcate.runtime.transport.lock import SocketLock

from .allowance import Allowance
from .reception import Reception, plan_of
from .supervisor import Supervisor
from .text import fetch_model, load_text
from .turn import FrontDriver

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from furcate.protocol.message import Event, Request
    from furcate.protocol.stream import EngineEvent, EngineReady
    from furcate.runtime.config import Config, ServerConfig

    Announce = Callable[[str], None]

__all__ = ["Server", "serve", "socket_of"]

log = logging.getLogger(__name__)

T = TypeVar("T")

SOCKET_NAME = "serve.sock"
LAST_WORDS_MS = 500  # for clients to be told before the sockets go
MAX_FAULTS = 10  # of the front itself, within FAULTS_WINDOW_S: more of them are no accident
FAULTS_WINDOW_S = 60.0
STOPPED = "the server has been stopped: run again when `furcate serve` is up"


def serve(config: Config, announce: Announce) -> None:
    """Serves until SIGTERM or SIGINT; `announce` gets each address once clients may connect.

    Raises what keeps the server from starting, and EngineLost when the engine ends for good.
    """
    path = socket_of(config.server)
    prepare_folder(path.parent)
    lock = SocketLock(path)
    try:
        fetch_model(config.model)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(config, path, announce))
    finally:
        lock.release()


def socket_of(config: ServerConfig) -> Path:
    """Where to listen. Beside the socket live its lock and the engine's socket."""
    if config.address is not None:
        return path_of(config.address, LINK_SUFFIX)
    folder = Path(config.socket_folder) if config.socket_folder else default_folder(os.environ)
    return path_of(address_of(folder.absolute() / SOCKET_NAME), LINK_SUFFIX)


def _limits_of(config: ServerConfig) -> Limits:
    return Limits(open_programs=config.max_programs, open_bytes=config.max_program_bytes)


async def _run(config: Config, path: Path, announce: Announce) -> None:
    await Server(config, path, announce).run()


class Server:
    """One run of the front, made and used on its event loop.

    Its end is decided once: by a signal (None), or by the error that ended the last engine.
    """

    def __init__(self, config: Config, path: Path, announce: Announce) -> None:
        self._config = config
        self._limits = limits_of(config.sessions, _limits_of(config.server))
        self._path = path
        self._plan = plan_of(config.server)
        self._announce = announce
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[EngineReady] = self._loop.create_future()
        self._end: asyncio.Future[FurcateError | None] = self._loop.create_future()
        self._clock = MonotonicClock()
        self._faults = Allowance(MAX_FAULTS, FAULTS_WINDOW_S, self._clock)
        self._context = open_context()
        self._supervisor = Supervisor(config, self._context, path, self._clock, self)
        self._reception: Reception | None = None
        self._driver: FrontDriver | None = None

    async def run(self) -> None:
        """Returns after a signal; raises the error that ended the last engine or its start."""
        self._loop.set_exception_handler(self._callback_failed)
        with ExitStack() as stack:
            stack.callback(self._context.term)
            stack.callback(self._remove_sockets)
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._finish, None)
                stack.callback(self._loop.remove_signal_handler, number)
            supervising = asyncio.ensure_future(self._supervisor.run())
            supervising.add_done_callback(self._supervisor_ended)
            try:
                await self._start()
                error = await self._end
                self._say_goodbye(STOPPED if error is None else str(error))
            finally:
                self._close_clients()
                supervising.cancel()
                await asyncio.wait([supervising])
        if error is not None:
            raise error

    # What the sockets report ---------------------------------------------------------------------

    def connected(self, client: Client) -> None:
        self._front_driver.connect(client)

    def received(self, client: Client, requests: list[Request]) -> None:
        try:
            self._front_driver.received(client, requests)
        except Exception:
            log.exception("a message of %r has failed", client)
            client.refuse(BackendError.code, "the server failed on a message")

    def overloaded(self, client: Client, programs: set[int]) -> None:
        self._front_driver.overloaded(client, programs)

    def gone(self, client: Client) -> None:
        self._front_driver.disconnect(client)

    # What the supervisor reports -----------------------------------------------------------------

    def engine_ready(self, ready: EngineReady) -> None:
        if self._driver is not None:
            self.engine_events([ready])
        elif not self._ready.done():
            self._ready.set_result(ready)

    def engine_events(self, events: Sequence[EngineEvent]) -> None:
        try:
            self._front_driver.engine_events(events)
        except FurcateError as error:
            self._finish(error)

    def engine_ended(self, message: str, in_flight: frozenset[int] | None) -> None:
        if self._driver is not None:
            self._driver.engine_ended(message, in_flight)

    # Beginning and end ---------------------------------------------------------------------------

    async def _start(self) -> None:
        """Lets clients in as soon as the engine is ready; returns early if the end comes first."""
        text = _in_thread(self._loop, lambda: load_text(self._config.model))
        missing: set[asyncio.Future[Any]] = {self._ready, text}
        while missing:
            arrived, _ = await asyncio.wait(
                [*missing, self._end], return_when=asyncio.FIRST_COMPLETED
            )
            if self._end in arrived:
                text.cancel()
                return
            missing -= arrived
            for future in arrived:
                future.result()  # raises what went wrong at once
        ready, (codec, template) = self._ready.result(), text.result()
        front = Front(codec, template, ready, self._limits, self._clock.now())
        self._driver = FrontDriver(
            front, self._loop, self._clock, self._supervisor.send, self._send
        )
        self._reception = Reception(self._context, self._path, self._plan, self._loop, self)
        if not self._supervisor.is_ready:  # it has ended meanwhile, and another is on its way
            self._driver.engine_ended("the engine ended before the first program")
        for address in self._reception.addresses:
            self._announce(address)

    def _supervisor_ended(self, supervising: asyncio.Future[FurcateError]) -> None:
        if supervising.cancelled():
            return
        error = supervising.exception()
        if error is not None:
            log.error("no engine can be started", exc_info=error)
            self._finish(BackendError(f"no engine can be started: {error}"))
        else:
            self._finish(supervising.result())

    def _finish(self, error: FurcateError | None) -> None:
        if not self._end.done():
            self._end.set_result(error)

    def _callback_failed(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """What went wrong was nobody's in particular. The others go on, unless it does not stop."""
        error = context.get("exception")
        log.error(
            "the front has failed: %s",
            context.get("message"),
            exc_info=error if isinstance(error, BaseException) else None,
        )
        if not self._faults.take():
            what = error or context.get("message")
            self._finish(BackendError(f"the front fails again and again, at last: {what}"))

    def _send(self, client: Hashable, events: Sequence[Event]) -> None:
        assert isinstance(client, Client)
        try:
            client.send(events)
        except Exception:
            log.exception("events for %r could not be sent", client)
            client.refuse(BackendError.code, "the server failed on an answer")

    def _say_goodbye(self, message: str) -> None:
        if self._driver is not None:
            self._driver.engine_lost(message)
        if self._reception is not None:
            self._reception.say_goodbye(message)

    def _close_clients(self) -> None:
        if self._driver is not None:
            self._driver.close()
        if self._reception is not None:
            self._reception.close(LAST_WORDS_MS)

    def _remove_sockets(self) -> None:
        with suppress(FileNotFoundError):
            self._path.unlink()

    @property
    def _front_driver(self) -> FrontDriver:
        assert self._driver is not None, "clients are let in after it is there"
        return self._driver


def _in_thread(loop: asyncio.AbstractEventLoop, function: Callable[[], T]) -> asyncio.Future[T]:
    """The function's result, from a thread that keeps nobody from leaving."""
    future: asyncio.Future[T] = loop.create_future()

    def set_unless_cancelled(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = function()
        except BaseException as error:
            failure = error
        with suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(set_unless_cancelled, result, failure)

    threading.Thread(target=run, name="furcate-text", daemon=True).start()
    return future
