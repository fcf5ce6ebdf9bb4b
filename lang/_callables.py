"""The functions of a program that its runtime may ask for, and how asking one goes.

A callable has a number in its program, one for each place that names it. Where it runs is the
session's matter; the loop or thread that runs it gets an Invocation and hands back an Answer.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from msgspec import structs

from furcate.errors import CallFailed, FurcateError
from furcate.protocol.message import Answer

from ._body import leave_body
from ._loops import running_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from concurrent.futures import Future

    from furcate.protocol.message import Data, Invoke

__all__ = ["Callables", "Invocation", "Task"]

_KEPT_ERRORS = 256

# How many calls of programs the running code is inside of.
_depth: contextvars.ContextVar[int] = contextvars.ContextVar("furcate_call_depth", default=0)


class Task(Protocol):
    """What a number stands for. A FurcateError out of `ended` or `raised` is the call's failure."""

    @property
    def function(self) -> Callable[..., object]: ...

    def call(self, args: Sequence[Data]) -> object:
        """Calls the function; what it returns may have to be awaited."""
        ...

    def ended(self, args: Sequence[Data], result: object) -> Data:
        """What the function has returned, as the answer."""
        ...

    def raised(self, args: Sequence[Data], error: BaseException) -> Data:
        """What an error means, as the answer."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Registered:
    """`context` and `loop` are those of the code that has named the function."""

    task: Task
    context: contextvars.Context
    loop: asyncio.AbstractEventLoop | None


class _Latest(dict[str, FurcateError]):
    """The errors of the latest calls by their messages: a failure of which a message comes back is
    met as the error itself, with what cannot travel."""

    def __setitem__(self, message: str, error: FurcateError) -> None:
        super().__setitem__(message, error)
        while len(self) > _KEPT_ERRORS:
            del self[next(iter(self))]


class Callables:
    """Of one program. Empty once it is over: a function that holds the program's own state keeps it
    no longer than it runs. `depth` is that of the code that runs the program."""

    def __init__(self) -> None:
        self.depth = _depth.get()
        self.told: dict[str, FurcateError] = _Latest()
        self._registered: list[Registered] = []
        self._numbers = threading.Lock()
        self._running: set[Future[None]] = set()
        self._is_over = False

    def add(self, task: Task) -> int:
        is_async = inspect.iscoroutinefunction(task.function)
        loop = running_loop() if is_async else None
        with self._numbers:
            self._registered.append(Registered(task, contextvars.copy_context(), loop))
            return len(self._registered) - 1

    def find(self, number: int) -> Registered | None:
        """None for one of a program that is over."""
        known = self._registered
        return known[number] if 0 <= number < len(known) else None

    def started(self, future: Future[None]) -> None:
        """A call runs on an event loop; it is cancelled at the end of the program."""
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        if self._is_over:
            future.cancel()

    def close(self) -> None:
        self._is_over = True
        self._registered.clear()
        self.told.clear()
        for future in list(self._running):
            future.cancel()


@dataclass(frozen=True, slots=True, eq=False)
class Invocation:
    """One Invoke on its way to its Answer. Holds nothing of the program."""

    invoke: Invoke
    registered: Registered
    depth: int
    is_wanted: Callable[[], bool]
    reply: Callable[[Answer], None]

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop it is to run on, where it needs no thread."""
        loop = self.registered.loop
        return loop if loop is not None and loop.is_running() else None

    def run(self) -> None:
        """In this thread, in a copy of the context that the function was named in."""
        self.registered.context.copy().run(self._run)

    async def run_async(self) -> None:
        """The same for a coroutine function, on the running loop."""
        try:
            result = self._call()
            if inspect.isawaitable(result):
                result = await result
        except BaseException as error:
            self._raised(error)
        else:
            self._ended(result)

    def _run(self) -> None:
        try:
            result = self._call()
            if inspect.isawaitable(result):
                result = asyncio.run(_awaited(result))
        except BaseException as error:
            self._raised(error)
        else:
            self._ended(result)

    def _call(self) -> object:
        _depth.set(self.depth + 1)
        leave_body()
        return self.registered.task.call(self.invoke.args)

    def _ended(self, result: object) -> None:
        try:
            self._reply(self.registered.task.ended(self.invoke.args, result))
        except FurcateError as error:
            self._reply(None, error)
        except Exception as error:
            self._raised(error)

    def _raised(self, raised: BaseException) -> None:
        try:
            self._reply(self.registered.task.raised(self.invoke.args, raised))
        except FurcateError as error:
            self._reply(None, error)
        except Exception:  # an object that cannot even be printed
            what = f"a call raised {type(raised).__name__}, which cannot be told"
            self._reply(None, CallFailed(what))

    def _reply(self, data: Data, error: FurcateError | None = None) -> None:
        answer = Answer(self.invoke.program, self.invoke.call, data)
        if error is not None:
            answer = structs.replace(answer, data=None, code=error.code, message=str(error))
        self.reply(answer)


async def _awaited(result: Awaitable[object]) -> object:
    return await result
