"""What a program asks its client to do, and what comes of it: a Call's function, a Gen's check.

Each Invoke has a number that the program never gives twice, so an answer that comes late finds
nobody. Knows neither time nor threads: an answer comes or the program ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from furcate.errors import FurcateError
from furcate.protocol.message import Invoke

from .cell import Cell, Failure, Ready

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from furcate.protocol.graph import Call
    from furcate.protocol.message import Answer, Data, Event

    from .branch import Branch

__all__ = ["Caller", "Calls", "Errand", "PendingCall"]


class Caller(Protocol):
    """Who waits for an answer, for `cell` to get its outcome. `expect_s`: how long that is expected
    to take, where it is known."""

    cell: Cell
    expect_s: float | None

    def answered(self, answer: Answer) -> None: ...


class Errand(Protocol):
    """What goes on beside the streams of a branch and ends with it."""

    def cancel(self, failure: Failure) -> None:
        """Nobody wants its value any more. Changes nothing if it is over."""


class Calls:
    """The open calls of one program."""

    def __init__(self, program: int, tell: Callable[[Event], None]) -> None:
        self._program = program
        self._tell = tell
        self._open: dict[int, Caller] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._open)

    def ask(self, function: int, args: tuple[Data, ...], caller: Caller) -> int:
        """The number of the call; the caller hears of it once, unless it withdraws."""
        number, self._next = self._next, self._next + 1
        self._open[number] = caller
        self._tell(Invoke(self._program, number, function, args))
        return number

    def awaited(self) -> dict[Cell, float | None]:
        """What the client is to give, and how long it is expected to take."""
        return {caller.cell: caller.expect_s for caller in self._open.values()}

    def withdraw(self, number: int) -> None:
        """The client may go on with it; what it says about it is nobody's business."""
        self._open.pop(number, None)

    def answer(self, answer: Answer) -> None:
        """Changes nothing where nobody waits for it."""
        caller = self._open.pop(answer.call, None)
        if caller is not None:
            caller.answered(answer)

    def clear(self) -> None:
        self._open.clear()


@dataclass(eq=False, slots=True)
class PendingCall:
    """One Call: asks the client once its arguments are there and the call before it on its branch
    is over, whatever came of that one and of the branch: a call depends on its arguments alone."""

    branch: Branch
    cell: Cell
    node: Call
    args: Sequence[Cell | Ready]
    before: Cell | None
    expect_s: float | None = None
    number: int | None = None  # once the client has been asked

    def __post_init__(self) -> None:
        needs = [arg for arg in self.args if isinstance(arg, Cell)]
        self.cell.sources = needs if self.before is None else [*needs, self.before]
        self.expect_s = self.node.expect_s

    def advance(self) -> None:
        if self.cell.outcome is not None:
            return
        missing = next((cell for cell in self.cell.sources if cell.outcome is None), None)
        if missing is not None:
            missing.waiters.append(self)
            return
        args: list[Data] = []
        for arg in self.args:
            outcome = arg.outcome if isinstance(arg, Cell) else arg
            if isinstance(outcome, Failure):
                self._end(outcome.upstream())
                return
            assert outcome is not None
            args.append(outcome.plain)
        self.number = self.branch.program.calls.ask(self.node.function, tuple(args), self)

    def answered(self, answer: Answer) -> None:
        if answer.code is not None:
            what = answer.message or "the client gave no reason"
            self._end(Failure(answer.code, what, self.cell.ordinal))
            return
        try:
            self._end(_ready(answer.data, self.branch.program.charge))
        except FurcateError as error:
            self._end(Failure.of(error, self.cell.ordinal))

    def cancel(self, failure: Failure) -> None:
        if self.number is not None:
            self.branch.program.calls.withdraw(self.number)
        self._end(failure)

    def _end(self, outcome: Ready | Failure) -> None:
        self.branch.errands.pop(self, None)
        self.cell.sources = ()  # a long chain of calls is not kept
        self.branch.program.resolve(self.cell, outcome)


def _ready(data: Data, charge: Callable[[int], None]) -> Ready:
    """What a function has returned, as a value."""
    if isinstance(data, list):
        charge(sum(map(_num_chars, data)))
        return Ready(data, None)
    text = data if isinstance(data, str) else str(data)
    charge(len(text))
    return Ready(data, text)


def _num_chars(element: object) -> int:
    if isinstance(element, list):
        return sum(map(_num_chars, element))
    return len(element) if isinstance(element, str) else 8
