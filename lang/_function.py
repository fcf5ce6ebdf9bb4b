"""`function`: makes a Python function a program."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, overload

from furcate.errors import UsageError

from ._batch import Batch, OnError, num_threads_of, run_async_batch
from ._explain import explain
from ._options import RunOptions, Signature
from ._progress import with_progress
from ._run import Call, run, run_async, start_async
from ._session import check_session_name

if TYPE_CHECKING:
    from ._state import ProgramState

__all__ = ["Function", "function"]

P = ParamSpec("P")
R = TypeVar("R")

Item = Mapping[str, object] | Sequence[object]


class Function(Generic[P, R]):
    """A program: a function whose first parameter is its state.

    `run`, `arun`, `astart` and `run_batch` take the function's own arguments and, by keyword:
    `backend`; `stream`; `timeout` in seconds; `seed`; `priority` from -100 to 100, higher ones run
    first; `tenant`, programs of the same one share cached KV and sessions; and the sampling
    parameters of `gen` as defaults for every `gen` of the run. A parameter of the function wins
    over such a keyword of the same name; `sampling=dict(...)` always means the sampling parameters.
    """

    def __init__(self, body: Callable[Concatenate[ProgramState, P], R]) -> None:
        if not callable(body):
            raise UsageError(f"@function decorates a function, got {body!r}")
        self._body = body
        self._signature = Signature(body)
        self._session: str | None = None
        update_wrapper(self, body)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> ProgramState:
        """The same as `run`."""
        return self.run(*args, **kwargs)

    @overload
    def run(self, *args: P.args, **kwargs: P.kwargs) -> ProgramState: ...
    @overload
    def run(self, *args: Any, **kwargs: Any) -> ProgramState: ...
    def run(self, *args: Any, **kwargs: Any) -> ProgramState:
        """Runs the program to its end and returns its state.

        Raises ProgramError, with the node, its source line and the cause, if something failed that
        the program did not deal with; what the body raises propagates as it is. With `stream=True`
        it returns at once: read `state.text_iter()` or `state.events()`.
        """
        return run(*self._call(args, kwargs))

    @overload
    async def arun(self, *args: P.args, **kwargs: P.kwargs) -> ProgramState: ...
    @overload
    async def arun(self, *args: Any, **kwargs: Any) -> ProgramState: ...
    async def arun(self, *args: Any, **kwargs: Any) -> ProgramState:
        """`run` without blocking the event loop. The body may be `async def`: it reads values with
        `await s.aget("x")`. A plain body runs in a worker thread."""
        call, options = self._call(args, kwargs)
        if options.stream:
            return await start_async(call, options)
        return await run_async(call, options)

    @overload
    async def astart(self, *args: P.args, **kwargs: P.kwargs) -> ProgramState: ...
    @overload
    async def astart(self, *args: Any, **kwargs: Any) -> ProgramState: ...
    async def astart(self, *args: Any, **kwargs: Any) -> ProgramState:
        """Starts the program, streaming, and returns its state at once."""
        call, options = self._call(args, {"stream": True, **kwargs})
        return await start_async(call, options)

    @overload
    def run_batch(
        self,
        items: Sequence[Item],
        *,
        on_error: OnError = ...,
        progress_bar: bool = ...,
        generator_style: Literal[False] = ...,
        num_threads: int | Literal["auto"] = ...,
        **kwargs: Any,
    ) -> list[ProgramState]: ...
    @overload
    def run_batch(
        self,
        items: Sequence[Item],
        *,
        on_error: OnError = ...,
        progress_bar: bool = ...,
        generator_style: Literal[True],
        num_threads: int | Literal["auto"] = ...,
        **kwargs: Any,
    ) -> Iterator[ProgramState]: ...
    def run_batch(
        self,
        items: Sequence[Item],
        *,
        on_error: OnError = "raise",
        progress_bar: bool = False,
        generator_style: bool = False,
        num_threads: int | Literal["auto"] = "auto",
        **kwargs: Any,
    ) -> list[ProgramState] | Iterator[ProgramState]:
        """Runs the program over items, each a dict of arguments or a tuple of them; the states come
        in the order of the items.

        `on_error="return"` gives the state of a failed item too (`state.ok`, `state.error`);
        `"raise"` ends the batch with the first error. `generator_style=True` yields each state as
        soon as it and those before it are finished. Programs that wait for values while they record
        use up to `num_threads` threads. With `seed`, item i runs as `run(..., seed=seed + i)`.
        """
        if on_error not in ("raise", "return"):
            raise UsageError(f"on_error must be 'raise' or 'return', got {on_error!r}")
        for flag, value in {
            "progress_bar": progress_bar,
            "generator_style": generator_style,
        }.items():
            if not isinstance(value, bool):
                raise UsageError(f"{flag} must be True or False, got {value!r}")
        threads = num_threads_of(num_threads)
        calls, options = self._calls(items, kwargs)
        if calls and calls[0].is_async:
            states: Iterator[ProgramState] = iter(run_async_batch(calls, options, on_error))
        else:
            states = Batch(calls, options, threads, on_error).results()
        if progress_bar:
            states = with_progress(states, len(calls), self._name)
        return states if generator_style else list(states)

    def open(self, *, session: str) -> Function[P, R]:
        """The same program, which goes on from what `state.save(session)` has kept: its text, its
        turns, and its variables, which the state has by the same names."""
        opened = copy.copy(self)
        opened._session = check_session_name(session)
        return opened

    def explain(self, *args: Any, **kwargs: Any) -> str:
        """What the program would send, node by node, and where it would wait for a value; runs the
        body once with placeholders for values, without a backend."""
        call, options = self._call(args, kwargs)
        return explain(call, options.sampling)

    @property
    def _name(self) -> str:
        return str(getattr(self._body, "__qualname__", "program"))

    def _call(
        self, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> tuple[Call, RunOptions]:
        own, options = self._signature.split(args, kwargs)
        return Call(self._body, args, own), replace(options, session=self._session)

    def _calls(
        self, items: Sequence[Item], kwargs: Mapping[str, object]
    ) -> tuple[list[Call], RunOptions]:
        if isinstance(items, str | Mapping) or not isinstance(items, Sequence):
            raise UsageError(
                f"items of run_batch() must be a list of dicts or tuples, got {items!r}"
            )
        options = replace(self._signature.options(kwargs), session=self._session)
        calls = []
        for item in items:
            if isinstance(item, Mapping):
                args, own = tuple[object, ...](), dict(item)
            elif isinstance(item, Sequence) and not isinstance(item, str):
                args, own = tuple(item), {}
            else:
                raise UsageError(f"an item of run_batch() is a dict or a tuple, got {item!r}")
            self._signature.check(args, own)
            calls.append(Call(self._body, args, own))
        return calls, options

    def __repr__(self) -> str:
        return f"<program {self._name}>"


def function(body: Callable[Concatenate[ProgramState, P], R]) -> Function[P, R]:
    """Makes a function a program; its first parameter is the state that it appends to.

    The body runs once a run, as ordinary Python with its real arguments; what it appends is
    recorded and sent, and Python waits only where a generated value is read.
    """
    return Function(body)
