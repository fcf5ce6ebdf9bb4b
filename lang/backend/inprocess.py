"""The engine in this process: no server, no sockets, the same messages.

Knows how to start a runtime and nothing of what it does.
"""

from __future__ import annotations

import atexit
import threading
from typing import TYPE_CHECKING, Protocol

from furcate.errors import ConnectionFailed, EngineLost, FurcateError

from .handshake import Handshake

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from furcate.protocol.message import Event, Request, Welcome

    from .base import Deliver, Lost

    Start = Callable[[Callable[[Sequence[Event]], None], Lost], "Runtime"]

__all__ = ["EngineChannel"]


class Runtime(Protocol):
    """What a channel needs of a runtime."""

    def start(self) -> None: ...

    def send(self, requests: Sequence[Request]) -> None: ...

    def close(self) -> None: ...


class EngineChannel:
    """Runs `model` on two threads of this process. `options` are those of `furcate serve`, with
    underscores: `EngineChannel("smollm2", kv_bytes="512MiB")`."""

    def __init__(self, model: str | None = None, **options: object) -> None:
        # The one way from language to runtime; torch and the rest load when an engine is wanted.
        from furcate.runtime import launch

        named = options if model is None else {"model": model, **options}
        config = launch.configure(named)
        self._set_up(lambda deliver, lost: launch.local_runtime(config, deliver, lost))

    @classmethod
    def over(cls, start: Start) -> EngineChannel:
        """Over a runtime of one's own making: `start` gets `deliver` and `lost`."""
        channel = cls.__new__(cls)
        channel._set_up(start)
        return channel

    def _set_up(self, start: Start) -> None:
        self._start = start
        self._runtime: Runtime | None = None
        self._lock = threading.Lock()  # over the error
        self._error: FurcateError | None = ConnectionFailed("the engine is not started yet")

    def open(self, deliver: Deliver, lost: Lost) -> Welcome:
        self._lost = lost
        self._handshake = Handshake("the engine", deliver)
        self._runtime = self._start(self._receive, self._lose)
        self._runtime.start()
        atexit.register(self.close)
        self._error = None
        self._runtime.send([Handshake.hello()])
        try:
            return self._handshake.answer.result()
        except BaseException:
            self.close()
            raise

    def send(self, requests: Sequence[Request]) -> None:
        with self._lock:  # keeps the order of the calls
            if self._error is not None:
                raise self._error
            assert self._runtime is not None
            self._runtime.send(requests)

    def close(self) -> None:
        with self._lock:
            if self._error is None:
                self._error = ConnectionFailed("the engine is closed")
        atexit.unregister(self.close)
        if self._runtime is not None:
            self._runtime.close()

    def _receive(self, events: Sequence[Event]) -> None:
        error = self._handshake.receive(events)
        if error is not None:
            self._lose(error)

    def _lose(self, error: FurcateError) -> None:
        with self._lock:
            first = self._error is None
            if first:
                self._error = error
        if self._handshake.fail(error):
            return
        if first:
            self._lost(error if isinstance(error, EngineLost) else EngineLost(str(error)))
