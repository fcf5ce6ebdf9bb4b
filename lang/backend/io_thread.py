"""A thread with an event loop, for a connection's socket. Knows no messages."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["IoThread"]


class IoThread:
    """Runs from construction until `stop`. It is a daemon: it keeps no program from ending."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self.loop = _new_loop()
        self.loop.set_exception_handler(
            lambda _, context: failed(
                context.get("exception") or RuntimeError(str(context.get("message")))
            )
        )
        self._thread = threading.Thread(target=self._run, name="furcate-io", daemon=True)
        self._thread.start()

    def call(self, function: Callable[..., None], *args: object) -> None:
        """Runs the function on the thread, soon; not at all once the thread has ended."""
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(function, *args)

    def stop(self) -> None:
        """Ends the thread after what was called before; waits for it. Callable twice."""
        self.call(self.loop.stop)
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # not there on every platform
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
