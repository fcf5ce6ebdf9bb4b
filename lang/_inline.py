"""Programs as parts of programs: `s += sub(x)` runs the body of `sub` on the state that it is
appended to, `sub.spawn(x)` on a branch of its own in the same program."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

from furcate.errors import UsageError
from furcate.protocol.graph import Root

from ._body import inside, running_body
from ._branch import new_branch
from ._expr import Part
from ._location import caller_location
from ._loops import run_coroutine
from ._record import check_open
from ._state import ProgramState

if TYPE_CHECKING:
    from ._body import Frame
    from ._branch import Branch
    from ._program import Program
    from ._run import Call

__all__ = ["InlineCall", "inline", "played", "spawn_inside"]

MAX_DEPTH = 64


class InlineCall(Part):
    """A program that was called inside another one's body. Where it is appended its body runs, on
    that state: what it appends and the variables that it sets are the state's."""

    __slots__ = ("_call", "_is_used", "_location", "_returned")

    def __init__(self, call: Call, location: str) -> None:
        self._call = call
        self._location = location
        self._is_used = False
        self._returned: list[object] = []

    @property
    def ret_value(self) -> object:
        """What the body has returned, Refs as they are."""
        if len(self._returned) != 1:
            times = "never" if not self._returned else f"{len(self._returned)} times"
            raise UsageError(
                f"{self!r} was {times} appended and has no single return value: append it once"
            )
        return self._returned[0]

    @property
    def ret_values(self) -> list[object]:
        """One for each time that it was appended, as to the states of a group."""
        return list(self._returned)

    def record(self, branch: Branch) -> None:
        """Runs the body on the branch."""
        call, program = self._call, branch.program
        self._is_used = True
        _check_depth(program, call)
        if not call.is_async:
            with inside(program):
                returned = call.body(ProgramState(branch), *call.args, **call.keywords)
        elif program.event_loop is not None:
            raise UsageError(f"{call.name} is async: append it with `await s.aappend(...)`")
        else:
            returned = run_coroutine(lambda: played(ProgramState(branch), call))
        self._returned.append(returned)

    async def record_async(self, branch: Branch) -> None:
        if not self._call.is_async:
            self.record(branch)
            return
        self._is_used = True
        _check_depth(branch.program, self._call)
        self._returned.append(await played(ProgramState(branch), self._call))

    def check_kept(self) -> None:
        if not self._is_used:
            raise UsageError(
                f"{self!r} was called at {self._location} and never appended: write "
                f"`s += {self._call.name}(...)`, or `.run(...)` for a program of its own"
            )

    def _is_no_state(self) -> NoReturn:
        raise UsageError(
            f"{self!r} was called inside a program, so it is a part to be appended: "
            f"`s += {self._call.name}(...)`. For a program of its own use `.run(...)`"
        )

    def __getitem__(self, name: str) -> NoReturn:
        self._is_no_state()

    def text(self) -> NoReturn:
        self._is_no_state()

    def __repr__(self) -> str:
        return f"{self._call.name}(...)"


def inline(call: Call, frame: Frame) -> InlineCall:
    """The call as a part of the body that makes it, which has to append it."""
    found = InlineCall(call, caller_location())
    frame.promises.append(found)
    return found


def spawn_inside(call: Call, frame: Frame) -> ProgramState:
    """Runs the body on a new branch of the program whose body makes the call."""
    program = frame.program()
    assert program is not None  # its body runs
    _check_depth(program, call)
    branch = new_branch(program, program.new_branch())
    check_open(branch)
    program.record(Root(branch.number), f"spawn {call.name}", caller_location())
    state = ProgramState(branch)
    if not call.is_async:
        with inside(program):
            state._returned = call.body(state, *call.args, **call.keywords)
    elif program.event_loop is None:
        state._returned = run_coroutine(lambda: played(state, call))
    else:
        _begin_beside(state, call, frame)
    return state


def _begin_beside(state: ProgramState, call: Call, frame: Frame) -> None:
    """As a task, which the body that spawns it waits for at its end."""

    async def play() -> None:
        state._returned = await played(state, call)

    task = asyncio.get_running_loop().create_task(play())
    task.add_done_callback(lambda _: state._program.results.poke())
    frame.tasks.append(task)
    state._spawned = task


async def played(state: ProgramState, call: Call) -> object:
    """Runs an async body, and those that it spawns, to their ends."""
    with inside(state._program) as frame:
        try:
            returned = await call.body(state, *call.args, **call.keywords)  # type: ignore[misc]
            await _finish_tasks(frame)
        except BaseException:
            _cancel_tasks(frame)
            raise
        return returned


async def _finish_tasks(frame: Frame) -> None:
    """Waits for the bodies that were spawned; the first that raised raises here."""
    while frame.tasks:
        await frame.tasks[0]
        del frame.tasks[0]


def _cancel_tasks(frame: Frame) -> None:
    for task in frame.tasks:
        task.cancel()


def _check_depth(program: Program, call: Call) -> None:
    frame = running_body()
    if frame is not None and frame.token is program.token and frame.depth >= MAX_DEPTH:
        raise UsageError(
            f"programs are appended more than {MAX_DEPTH} deep inside each other, {call.name} the "
            f"last one: a recursion needs an end"
        )
