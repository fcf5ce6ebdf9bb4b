"""Running one program: its body, then its end."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from furcate.errors import Cancelled, ProgramError

from ._body import inside
from ._branch import Branch
from ._default import backend_or_default
from ._inline import played
from ._loops import run_coroutine
from ._program import Program, Sink, program_error
from ._ref import resolve
from ._session import open_session
from ._state import ProgramState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._options import RunOptions

__all__ = ["Call", "execute", "finish", "open_state", "run", "run_async", "start", "start_async"]


@dataclass(frozen=True, slots=True)
class Call:
    """A program's function with its arguments."""

    body: Callable[..., object]
    args: tuple[object, ...] = ()
    keywords: Mapping[str, object] = field(default_factory=dict)
    requires_graph: bool = False

    @property
    def name(self) -> str:
        return getattr(self.body, "__qualname__", "program")

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.body)


def open_state(
    call: Call, options: RunOptions, *, sink: Sink | None = None, index: int = 0, lazy: bool = False
) -> ProgramState:
    """A fresh program's first state. `lazy` programs are sent by whoever opened them."""
    sink = sink if sink is not None else backend_or_default(options.backend)
    program = Program(
        sink, options.wire(index), sampling=options.sampling, name=call.name, lazy=lazy
    )
    program.index = index
    program.requires_graph = call.requires_graph
    branch = Branch(program, 0)
    if options.session is not None:
        open_session(branch, options.session)
    return ProgramState(branch)


def execute(state: ProgramState, call: Call) -> None:
    """Runs the body, once, in this thread. What it raises ends the program and propagates."""
    program = state._program
    try:
        if call.is_async:
            asyncio.run(_await_body(state, call))
        else:
            with inside(program):
                state._returned = call.body(state, *call.args, **call.keywords)
                program.end_groups()
    except BaseException as error:
        _body_failed(state, error)
        raise
    program.close()
    program.results.poke()


async def execute_async(state: ProgramState, call: Call) -> None:
    """The same for either kind of body, without blocking the event loop."""
    if not call.is_async:
        try:
            await asyncio.to_thread(execute, state, call)
        except asyncio.CancelledError as error:
            _body_failed(state, error)
            raise
        return
    try:
        await _await_body(state, call)
    except BaseException as error:
        _body_failed(state, error)
        raise
    state._program.close()
    state._program.results.poke()


async def _await_body(state: ProgramState, call: Call) -> None:
    program = state._program
    program.event_loop = asyncio.get_running_loop()
    try:
        state._returned = await played(state, call)
        program.end_groups()
    finally:
        program.event_loop = None


def _body_failed(state: ProgramState, error: BaseException) -> None:
    program = state._program
    if isinstance(error, ProgramError) and error.state is None:
        error.state = state
    program.body_error = error
    program.cancel(Cancelled(f"the body of {program.name} raised {error!r}"))
    program.results.poke()


def finish(state: ProgramState) -> None:
    """Waits for the end of the program; raises ProgramError for what failed and nobody took."""
    program = state._program
    try:
        program.wait_over()
        _conclude(state)
    except BaseException as error:
        _abandon(program, error)
        raise


async def finish_async(state: ProgramState) -> None:
    program = state._program
    try:
        await program.wait_over_async()
        _conclude(state)
    except BaseException as error:
        _abandon(program, error)
        raise


def _conclude(state: ProgramState) -> None:
    program = state._program
    failure = state._failure = program.unhandled()
    if failure is not None:
        raise program_error(failure, state)
    state._returned = resolve(state._returned, program)


def _abandon(program: Program, error: BaseException) -> None:
    """Whoever waited has gone, by Ctrl-C or a cancelled task: so does the program."""
    if not program.results.over:
        program.cancel(Cancelled(f"waiting for {program.name} was given up: {error!r}"))


def run(call: Call, options: RunOptions) -> ProgramState:
    """In this thread; with `stream` in a thread of its own, so that text can be read meanwhile. An
    async body runs on a loop of its own."""
    if options.stream:
        return start(call, options)
    if call.is_async:
        return run_coroutine(lambda: run_async(call, options))
    state = open_state(call, options)
    execute(state, call)
    finish(state)
    return state


async def run_async(call: Call, options: RunOptions) -> ProgramState:
    state = open_state(call, options)
    await execute_async(state, call)
    await finish_async(state)
    return state


def start(call: Call, options: RunOptions) -> ProgramState:
    """Runs the body beside the caller; its errors come out of the state."""
    state = open_state(call, options)
    context = contextvars.copy_context()
    thread = threading.Thread(
        target=context.run, args=(_run_beside, state, call), name="furcate-program", daemon=True
    )
    thread.start()
    return state


def _run_beside(state: ProgramState, call: Call) -> None:
    try:
        execute(state, call)
        state._program.flush()
    except BaseException as error:
        # Kept in `body_error`, from where whoever reads the state gets it.
        if not isinstance(error, Exception | asyncio.CancelledError):
            raise


async def start_async(call: Call, options: RunOptions) -> ProgramState:
    """Like `start`; an async body becomes a task of the running loop."""
    if not call.is_async:
        return start(call, options)
    state = open_state(call, options)
    state._program.event_loop = asyncio.get_running_loop()

    async def run_beside() -> None:
        try:
            await execute_async(state, call)
            state._program.flush()
        except Exception as error:  # as above, and what sending could raise
            state._program.body_error = error
            state._program.results.poke()

    state._task = asyncio.get_running_loop().create_task(run_beside())
    return state
