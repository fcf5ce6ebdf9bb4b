"""`function`: makes a Python function a program."""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import update_wrapper
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    overload,
)

from furcate.errors import UsageError

from ._batch import Batch, OnError, num_threads_of, run_async_batch
from ._body import running_body
from ._explain import explain
from ._inline import inline, spawn_inside
from ._options import RunOptions, Signature
from ._peephole import rewritten
from ._pin import Pinned, pin
from ._progress import with_progress
from ._run import Call, run, run_async, start, start_async
from ._session import check_session_name

if TYPE_CHECKING:
    from ._ref import Ref
    from ._state import ProgramState
    from .backend.session import Session

__all__ = ["Function", "function"]

P = ParamSpec("P")
R = TypeVar("R")

Item = Mapping[str, object] | Sequence[object]


class Function(Generic[P, R]):
    """A program: a function whose first parameter is its state.

    `run`, `arun`, `astart` and `run_batch` take the function's own arguments and, by keyword:
    `backend`; `stream`; `timeout` in seconds; `seed`; `priority` from -100 to 100, higher ones run
    first; `tenant`, programs of the same one share cached KV and sessions; `template="append"`,
    which allows a chat template that rewrites earlier turns; and the sampling parameters of `gen`
    as defaults for every `gen` of the run. A parameter of the function wins over such a keyword of
    the same name; `sampling=dict(...)` always means the sampling parameters.
    """

    def __init__(
        self,
        body: Callable[Concatenate[ProgramState, P], R],
        *,
        requires_graph: bool = False,
        peephole: bool = True,
    ) -> None:
        if not callable(body):
            raise UsageError(f"@function decorates a function, got {body!r}")
        self._body = rewritten(body) if peephole else body
        self._signature = Signature(body)
        self._requires_graph = requires_graph
        self._session: str | None = None
        self._bound: Mapping[str, object] = {}  # arguments that are fixed
        update_wrapper(self, body)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> ProgramState[R]:
        """Outside of programs the same as `run`. Inside a program's body a part of that program:
        `s += sub(x)` runs the body of `sub` on `s`, which gets the variables that it sets;
        `call = sub(x); s += call; call.ret_value` is what it has returned."""
        frame = running_body()
        if frame is None:
            return self.run(*args, **kwargs)
        # What type checkers take for the state that a run would give can be appended alone.
        return inline(self._part(args, kwargs), frame)  # type: ignore[return-value]

    @overload
    def spawn(self, *args: P.args, **kwargs: P.kwargs) -> ProgramState[R]: ...
    @overload
    def spawn(self, *args: Any, **kwargs: Any) -> ProgramState[R]: ...
    def spawn(self, *args: Any, **kwargs: Any) -> ProgramState[R]:
        """Starts the program and returns its state at once. Inside a program's body it becomes a
        branch of that program, which begins with no text: Refs of one may be used in the other, and
        what fails fails the whole. An async body runs beside the one that spawns it."""
        frame = running_body()
        if frame is not None:
            return spawn_inside(self._part(args, kwargs), frame)
        return start(*self._call(args, kwargs))

    def bind(self, **arguments: object) -> Function[..., R]:
        """The same program with these arguments fixed; a call may give others."""
        self._signature.check_names(arguments)
        bound = copy.copy(self)
        bound._bound = {**self._bound, **arguments}
        return bound

    @overload
    def run(self, *args: P.args, **kwargs: P.kwargs) -> ProgramState[R]: ...
    @overload
    def run(self, *args: Any, **kwargs: Any) -> ProgramState[R]: ...
    def run(self, *args: Any, **kwargs: Any) -> ProgramState[R]:
        """Runs the program to its end and returns its state.

        Raises ProgramError, with the node, its source line and the cause, if something failed that
        the program did not deal with; what the body raises propagates as it is. With `stream=True`
        it returns at once: read `state.text_iter()` or `state.events()`.
        """
        return run(*self._call(args, kwargs))

    @overload
    async def arun(self, *args: P.args, **kwargs: P.kwargs) -> ProgramState[R]: ...
    @overload
    async def arun(self, *args: Any, **kwargs: Any) -> ProgramState[R]: ...
    async def arun(self, *args: Any, **kwargs: Any) -> ProgramState[R]:
        """`run` without blocking the event loop. The body may be `async def`: it reads values with
        `await s.aget("x")`. A plain body runs in a worker thread."""
        call, options = self._call(args, kwargs)
        if options.stream:
            return await start_async(call, options)
        return await run_async(call, options)

    @overload
    async def astart(self, *args: P.args, **kwargs: P.kwargs) -> ProgramState[R]: ...
    @overload
    async def astart(self, *args: Any, **kwargs: Any) -> ProgramState[R]: ...
    async def astart(self, *args: Any, **kwargs: Any) -> ProgramState[R]:
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
    ) -> list[ProgramState[R]]: ...
    @overload
    def run_batch(
        self,
        items: Sequence[Item],
        *,
        on_error: OnError = ...,
        progress_bar: bool = ...,
        generator_style: Literal[True, "as_finished"],
        num_threads: int | Literal["auto"] = ...,
        **kwargs: Any,
    ) -> Iterator[ProgramState[R]]: ...
    def run_batch(
        self,
        items: Sequence[Item],
        *,
        on_error: OnError = "raise",
        progress_bar: bool = False,
        generator_style: bool | Literal["as_finished"] = False,
        num_threads: int | Literal["auto"] = "auto",
        **kwargs: Any,
    ) -> list[ProgramState[R]] | Iterator[ProgramState[R]]:
        """Runs the program over items, each a dict of arguments or a tuple of them; the states come
        in the order of the items.

        `on_error="return"` gives the state of a failed item too (`state.ok`, `state.error`);
        `"raise"` ends the batch with the first error. `generator_style=True` yields each state as
        soon as it and those before it are finished, "as_finished" each as soon as it is: its
        `index` tells the item. Programs that wait for values while they record use up to
        `num_threads` threads. With `seed`, item i runs as `run(..., seed=seed + i)`.
        """
        if on_error not in ("raise", "return"):
            raise UsageError(f"on_error must be 'raise' or 'return', got {on_error!r}")
        if not isinstance(progress_bar, bool):
            raise UsageError(f"progress_bar must be True or False, got {progress_bar!r}")
        if not isinstance(generator_style, bool) and generator_style != "as_finished":
            raise UsageError(
                f"generator_style must be True, False or 'as_finished', got {generator_style!r}"
            )
        in_order = generator_style != "as_finished"
        threads = num_threads_of(num_threads)
        calls, options = self._calls(items, kwargs)
        if calls and calls[0].is_async:
            states: Iterator[ProgramState[R]] = iter(
                run_async_batch(calls, options, on_error, in_order)
            )
        elif in_order:
            states = Batch(calls, options, threads, on_error).results()
        else:
            states = Batch(calls, options, threads, on_error).results_as_finished()
        if progress_bar:
            states = with_progress(states, len(calls), self._name)
        return states if generator_style else list(states)

    def open(self, *, session: str) -> Function[P, R]:
        """The same program, which goes on from what `state.save(session)` has kept: its text, its
        turns, and its variables, which the state has by the same names."""
        opened = copy.copy(self)
        opened._session = check_session_name(session)
        return opened

    def pin(
        self, ttl: float | None = None, *, backend: Session | None = None, tenant: str = ""
    ) -> Pinned:
        """Computes what all runs of the program begin with and keeps it in the cache, for `ttl`
        seconds or until `unpin()` of what this returns.

        That is what the body appends with the arguments that are bound, up to the first use of
        another one, the first generation or the first fork. The body runs up to there, so what else
        it does before happens. Only runs of the same `tenant` share it.
        """
        options = replace(
            self._signature.options({"backend": backend, "tenant": tenant}), session=self._session
        )
        return pin(self._body, lambda rest: self._signature.filled(self._bound, rest), options, ttl)

    def cache(self, *, backend: Session | None = None, tenant: str = "") -> Pinned:
        """`pin` without an end of its time."""
        return self.pin(backend=backend, tenant=tenant)

    def explain(self, *args: Any, **kwargs: Any) -> str:
        """What the program would send, node by node, and where it would wait for a value; runs the
        body once with placeholders for values, without a backend."""
        if self._session is not None:
            raise UsageError(
                f"explain() has no backend, where session {self._session!r} is: explain the "
                "program as it is before open()"
            )
        call, options = self._call(args, kwargs)
        return explain(call, options.sampling)

    @property
    def _name(self) -> str:
        return str(getattr(self._body, "__qualname__", "program"))

    def _call(
        self, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> tuple[Call, RunOptions]:
        own, options = self._signature.split(args, kwargs, self._bound)
        call = Call(self._body, args, own, self._requires_graph)
        return call, replace(options, session=self._session)

    def _part(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Call:
        """A call that becomes part of a running program, which has its own options."""
        call, _ = self._call(args, kwargs)
        options = [key for key in kwargs if key not in call.keywords]
        if options or self._session is not None:
            what = options[0] if options else f"session {self._session!r}"
            raise UsageError(
                f"{what} belongs to a run of its own, and {self._name}() is called inside a "
                f"program: give it to the gens, or use {self._name}.run(...)"
            )
        return call

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
            own = self._signature.with_bound(args, own, self._bound)
            self._signature.check(args, own)
            calls.append(Call(self._body, args, own, self._requires_graph))
        return calls, options

    def __repr__(self) -> str:
        bound = ", ".join(f"{key}={value!r:.40}" for key, value in self._bound.items())
        return f"<program {self._name}{f'({bound})' if bound else ''}>"


class Decorator(Protocol):
    """`@function(...)`. What is returned by reference is a value in the end, and what a coroutine
    gives is what it returns."""

    @overload
    def __call__(
        self, body: Callable[Concatenate[ProgramState, P], Coroutine[Any, Any, R]], /
    ) -> Function[P, R]: ...
    @overload
    def __call__(
        self, body: Callable[Concatenate[ProgramState, P], Ref], /
    ) -> Function[P, Any]: ...
    @overload
    def __call__(self, body: Callable[Concatenate[ProgramState, P], R], /) -> Function[P, R]: ...


@overload
def function(
    body: Callable[Concatenate[ProgramState, P], Coroutine[Any, Any, R]],
) -> Function[P, R]: ...
@overload
def function(body: Callable[Concatenate[ProgramState, P], Ref]) -> Function[P, Any]: ...
@overload
def function(body: Callable[Concatenate[ProgramState, P], R]) -> Function[P, R]: ...
@overload
def function(*, graph: Literal["require"] | None = None, peephole: bool = True) -> Decorator: ...
def function(
    body: Callable[Concatenate[ProgramState, P], R] | None = None,
    *,
    graph: Literal["require"] | None = None,
    peephole: bool = True,
) -> object:
    """Makes a function a program; its first parameter is the state that it appends to.

    The body runs once a run, as ordinary Python with its real arguments; what it appends is
    recorded and sent, and Python waits only where a generated value is read. With
    `@function(graph="require")` it never waits: reading a value in the body is ForcedInRegion, with
    the line and what to do instead.

    A value that is only appended is not waited for either: in `s += "Tip: " + child["tip"]` it is a
    reference. `peephole=False` leaves the body as it is written.
    """
    if graph not in (None, "require"):
        raise UsageError(f"graph must be 'require' or None, got {graph!r}")
    requires_graph = graph is not None

    def make(body: Callable[Concatenate[ProgramState, P], R]) -> Function[P, R]:
        return Function(body, requires_graph=requires_graph, peephole=peephole)

    return make if body is None else make(body)
