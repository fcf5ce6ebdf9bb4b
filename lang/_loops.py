"""Running a coroutine to its end from plain code, also where this thread's event loop is busy
running that code, as in a notebook: then on a loop of its own in another thread."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["run_coroutine", "running_loop"]

T = TypeVar("T")

# A signal that comes just before a wait is seen when the wait is over: so no wait is long.
LOOK_UP_S = 0.2


def run_coroutine(make: Callable[[], Awaitable[T]]) -> T:
    """Blocks until what `make` gives is done. Where the wait is interrupted, it is cancelled."""
    return asyncio.run(_awaited(make)) if running_loop() is None else _run_beside(make)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """That of this thread, if one runs here."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _awaited(make: Callable[[], Awaitable[T]]) -> T:
    return await make()


def _run_beside(make: Callable[[], Awaitable[T]]) -> T:
    outcome: Future[T] = Future()
    begun: Future[Callable[[], object]] = Future()
    may_begin: Future[bool] = Future()

    async def main() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        begun.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
        return await make()

    def run() -> None:
        if not may_begin.result():
            return
        try:
            outcome.set_result(asyncio.run(main()))
        except BaseException as error:
            outcome.set_exception(error)

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name="furcate-loop", daemon=True)
    try:
        thread.start()
        may_begin.set_result(True)
        while not wait([outcome], LOOK_UP_S).done:
            pass
        return outcome.result()
    finally:
        if not may_begin.done():  # whoever waits was interrupted, at once
            may_begin.set_result(False)
        elif not outcome.done():  # or later
            cancel = begun.result()
            with suppress(RuntimeError):  # it has ended meanwhile
                cancel()
        if thread.ident is not None:
            thread.join()
