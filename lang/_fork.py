"""Forking a branch: children that begin with its text and share its KV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.errors import UsageError
from furcate.protocol.graph import Fork

from ._group import StateGroup
from ._location import caller_location
from ._numbers import is_integer
from ._record import check_open
from ._ref import Ref
from ._state import ProgramState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

__all__ = ["StateCopy", "fork_state"]


def fork_state(state: ProgramState, n: int, over: Iterable[object] | None) -> StateGroup:
    """Records the fork; see ProgramState.fork."""
    if over is not None:
        if isinstance(over, Ref | str) or n != 1:
            raise UsageError(f"fork(over=...) takes a list alone, got over={over!r} and n={n!r}")
        items = list(over)
    else:
        if not is_integer(n) or n < 1:
            raise UsageError(f"fork() takes a number from 1 on, got {n!r}")
        items = [None] * n
    branch, program = state._branch, state._branch.program
    check_open(branch)
    children = [branch.child(program.new_branch(), item) for item in items]
    if children:
        numbers = tuple(child.number for child in children)
        program.record(Fork(branch.number, numbers), "fork", caller_location())
    return StateGroup(state, [ProgramState(child) for child in children])


class StateCopy:
    """A fork of one for a `with` block."""

    def __init__(self, state: ProgramState) -> None:
        self._group = state.fork(1)

    def __enter__(self) -> ProgramState:
        return self._group[0]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._group.join()
