"""Text as it comes: of one variable, of a branch, or of a whole program.

Each walk is written once, as a generator of text and of conditions to wait for; a blocking and an
asynchronous driver run it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.errors import UsageError

from ._body import body_ended, in_body
from ._branch import Branch, Elected, Flow
from ._program import Program, program_error
from ._slot import Slot
from ._variables import find, slot_of

if TYPE_CHECKING:
    from ._branch import Entry
    from ._results import StreamEvent

__all__ = ["Events", "drive", "drive_async", "walk_branch", "walk_variable"]


@dataclass(frozen=True, slots=True)
class Until:
    """In a walk: go on when this holds."""

    ready: Callable[[], bool]


Walk = Generator[str | Until, None, None]


def walk_slot(program: Program, slot: Slot) -> Walk:
    """The text of one value; of n samples the first."""
    position = 0
    while True:
        text = slot.text() if slot.settled and slot.failure is None else slot.pieces.get(0, "")
        if len(text) > position:
            piece, position = text[position:], len(text)
            yield piece
        elif slot.settled:
            break
        else:
            yield Until(_more_than(slot, position))
    failure = program.failure_of(slot)
    if failure is not None:
        raise program.error(failure)


def walk_branch(branch: Branch) -> Walk:
    """What is appended to the branch, as it is; role markup is the model's and is left out."""
    program, log, index = branch.program, branch.log, 0
    begun: list[Entry] = []  # of what the branch has from an election
    while True:
        if begun or index < len(log):
            if begun:
                entry = begun.pop()
            else:
                entry, index = log[index], index + 1
            if isinstance(entry, Elected):
                yield from _until_decided(program, entry.order)
                begun += reversed(entry.chosen)
            elif isinstance(entry, Slot):
                yield from walk_slot(program, entry)
            elif isinstance(entry, Flow):
                yield from walk_flow(branch, entry, index)
            elif isinstance(entry, str):
                yield entry
        elif body_ended(program):
            break
        else:
            yield Until(_longer_than(branch, index))
    if program.body_error is not None:
        raise program.body_error


def walk_flow(branch: Branch, flow: Flow, index: int) -> Walk:
    """What control flow generates on the branch. How it goes is told to programs that stream only,
    and that it is over by what comes after it in the log, from `index` on, or by the end."""
    results, place = branch.program.results, 0
    if not branch.program.streams:
        raise UsageError(
            f"what {flow.label} appends to this state is known as a whole: read text(), or run the "
            f"program with stream=True"
        )

    def is_over() -> bool:
        later = (entry for entry in branch.log[index:] if isinstance(entry, Slot))
        return results.over or any(slot.settled or slot.pieces for slot in later)

    while True:
        while place < len(results.stream):
            event, slot, place = results.stream[place], results.streamed[place], place + 1
            if flow.first <= slot.value_id < flow.end and event.branch == flow.branch:
                yield event.delta
        if is_over():
            return
        yield Until(_streamed_or(branch, place, is_over))


def _streamed_or(branch: Branch, place: int, is_over: Callable[[], bool]) -> Callable[[], bool]:
    return lambda: len(branch.program.results.stream) > place or is_over()


def walk_variable(branch: Branch, name: str) -> Walk:
    """The text of the variable; a reader outside the body waits until the name is recorded."""
    program, variables = branch.program, branch.variables
    if not in_body(program):
        while name not in variables and not body_ended(program):
            yield Until(lambda: name in variables or body_ended(program))
        if name not in variables and program.body_error is not None:
            raise program.body_error
    variable = find(branch, name)
    while isinstance(variable, Elected):
        yield from _until_decided(program, variable.order)
        variable = variable.chosen
    yield from walk_slot(program, slot_of(branch, name))


def _until_decided(program: Program, order: Slot) -> Walk:
    if not order.settled:
        yield Until(lambda: order.settled)
    failure = program.failure_of(order)
    if failure is not None:
        raise program.error(failure)


def _more_than(slot: Slot, position: int) -> Callable[[], bool]:
    return lambda: slot.settled or len(slot.pieces.get(0, "")) > position


def _longer_than(branch: Branch, index: int) -> Callable[[], bool]:
    return lambda: len(branch.log) > index or body_ended(branch.program)


def drive(program: Program, walk: Walk) -> Iterator[str]:
    program.prepare_wait()
    for step in walk:
        if isinstance(step, str):
            yield step
        else:
            program.results.wait(step.ready)


async def drive_async(program: Program, walk: Walk) -> AsyncIterator[str]:
    program.prepare_wait()
    for step in walk:
        if isinstance(step, str):
            yield step
        else:
            await program.results.wait_async(step.ready)


class Events:
    """Every branch and every variable in one stream; for `for` and for `async for`."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def _ready(self, index: int) -> Callable[[], bool]:
        results = self._program.results
        return lambda: len(results.stream) > index or self._ended()

    def _ended(self) -> bool:
        return self._program.results.over or self._program.body_error is not None

    def _raise_error(self) -> None:
        if self._program.body_error is not None:
            raise self._program.body_error
        failure = self._program.unhandled()
        if failure is not None:
            raise program_error(failure)

    def __iter__(self) -> Iterator[StreamEvent]:
        stream, index = self._program.results.stream, 0
        self._program.prepare_wait()
        while True:
            self._program.results.wait(self._ready(index))
            if index == len(stream):
                break
            yield stream[index]
            index += 1
        self._raise_error()

    async def __aiter__(self) -> AsyncIterator[StreamEvent]:
        stream, index = self._program.results.stream, 0
        self._program.prepare_wait()
        while True:
            await self._program.results.wait_async(self._ready(index))
            if index == len(stream):
                break
            yield stream[index]
            index += 1
        self._raise_error()
