"""How a state ended, as errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.errors import ProgramError

from ._body import body_ended, in_body
from ._elect import has_flow, log_of
from ._location import caller_location, raised_location
from ._program import program_error
from ._record import text_slot
from ._slot import Slot

if TYPE_CHECKING:
    from ._branch import Branch
    from ._program import Program
    from ._state import ProgramState

__all__ = ["StateError", "branch_error", "check_failed", "wait_for_body"]


@dataclass(frozen=True, slots=True)
class StateError:
    """How a state ended: false and empty without an error, prints as the error otherwise.

    `state.error()` gives the ProgramError itself, or None.
    """

    exception: ProgramError | None

    def __call__(self) -> ProgramError | None:
        return self.exception

    def __bool__(self) -> bool:
        return self.exception is not None

    def __str__(self) -> str:
        return str(self.exception) if self.exception is not None else ""


def check_failed(branch: Branch) -> None:
    """Raises if the branch has failed already: asking it for text could never be answered."""
    failure = branch.program.results.branch_failures.get(branch.number)
    if failure is not None:
        raise program_error(failure)


def branch_error(state: ProgramState) -> ProgramError | None:
    """Waits for everything on the branch; the first failure, as the error that tells it."""
    branch, program = state._branch, state._program
    if branch.number == 0:
        wait_for_end(program)
    if program.body_error is not None and branch.number == 0:
        return as_program_error(program.body_error, state)
    try:
        slots = [entry for entry in log_of(branch) if isinstance(entry, Slot)]
    except ProgramError as error:  # there was no election
        return error
    for slot in slots:
        program.wait(slot)
    if has_flow(branch):
        program.wait(text_slot(branch, caller_location()))
    failures = (program.failure_of(slot) for slot in slots)
    found = state._failure or next((f for f in failures if f is not None), None)
    found = found or program.results.branch_failures.get(branch.number)
    if found is None and branch.number == 0 and program.results.over:
        found = state._failure = program.unhandled()
    return program_error(found, state) if found is not None else None


def as_program_error(error: BaseException, state: ProgramState) -> ProgramError:
    if isinstance(error, ProgramError):
        return error
    location = raised_location(error)
    where = f" at {location}" if location else ""
    wrapped = ProgramError(
        f"the body of the program raised {error!r}{where}", location=location, state=state
    )
    wrapped.__cause__ = error
    return wrapped


def wait_for_body(program: Program) -> None:
    """Outside the body: until it has returned or raised."""
    if not body_ended(program):
        program.check_may_block("what is known at the end")
        program.results.wait(lambda: body_ended(program) or program.results.over)


def wait_for_end(program: Program) -> None:
    """Outside the body: until the program is over. Inside, its end would never come."""
    if not in_body(program):
        wait_for_body(program)
        if program.body_error is None:
            program.wait_over()
