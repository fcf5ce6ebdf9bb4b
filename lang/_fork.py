"""Groups of states: forking a branch, working on all children, joining them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from furcate.errors import ProgramError, UsageError
from furcate.protocol.graph import Fork, Join

from ._branch import Gathered
from ._expr import Expr
from ._location import caller_location
from ._record import check_open
from ._ref import Ref
from ._state import ProgramState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from ._meta import Scores

__all__ = ["StateCopy", "StateGroup", "fork_state"]

_MODES = {
    "gather": "gather",
    "gather_variable": "gather",
    "append": "append",
    "concate_and_append": "append",
}


class StateGroup:
    """The children of a fork: `group[i]`, iteration, `len(group)`.

    `group += x` appends x to each child; a list gives each its own, a function is called with the
    child's index.
    """

    def __init__(self, parent: ProgramState, children: Sequence[ProgramState]) -> None:
        self._parent = parent
        self._children = tuple(children)

    def __len__(self) -> int:
        return len(self._children)

    def __getitem__(self, index: int) -> ProgramState:
        return self._children[index]

    def __iter__(self) -> Iterator[ProgramState]:
        return iter(self._children)

    def __iadd__(
        self, other: Expr | str | Sequence[Expr | str] | Callable[[int], Expr | str]
    ) -> Self:
        for child, expr in zip(self._children, self._spread(other), strict=True):
            state = child
            state += expr
        return self

    def _spread(
        self, other: Expr | str | Sequence[Expr | str] | Callable[[int], Expr | str]
    ) -> Sequence[Expr | str]:
        if isinstance(other, Expr | str):
            return [other] * len(self)
        if callable(other):
            return [other(index) for index in range(len(self))]
        if not isinstance(other, list | tuple):
            raise TypeError(
                f"a group takes an expression, a list of them or a function of the index, "
                f"got {other!r}"
            )
        if len(other) != len(self):
            raise UsageError(f"the group has {len(self)} states, the list {len(other)} elements")
        return other

    def join(self, mode: str = "gather") -> None:
        """Ends the group's own life.

        "gather": each variable that a child has set becomes, in the parent, the list of the
        children's values; a child that failed has None there and its error in `errors`.
        "append": the parent goes on with what each child has appended, in order. Waits for nothing.
        """
        if mode not in _MODES:
            raise UsageError(f"join() mode must be 'gather' or 'append', got {mode!r}")
        parent = self._parent._branch
        branches = [child._branch for child in self._children]
        check_open(parent)
        for branch in branches:
            if branch.joined:
                raise UsageError("the group has been joined already")
            if branch.role != parent.role:
                raise UsageError(f"a child is joined with its role {branch.role!r} open: end it")
            branch.joined = True
        if _MODES[mode] == "gather":
            parent.program.joined.update(branch.number for branch in branches)
            self._gather()
        elif branches:
            for branch in branches:
                parent.log.extend(branch.log[branch.fork_point :])
            numbers = tuple(branch.number for branch in branches)
            parent.program.record(Join(parent.number, numbers), "join", caller_location())

    def _gather(self) -> None:
        branches = [child._branch for child in self._children]
        names = dict.fromkeys(name for branch in branches for name in branch.own)
        for name in names:
            elements = tuple(branch.own.get(name) for branch in branches)
            self._parent._branch.set(name, Gathered(elements))

    @property
    def errors(self) -> list[ProgramError | None]:
        """One element a child: its error or None. Waits for the children."""
        return [child.error() for child in self._children]

    def refs(self, name: str) -> list[Ref]:
        """The children's variable, by reference."""
        return [child.ref(name) for child in self._children]

    def scores(self, name: str) -> list[Scores]:
        """The children's scores of a `select(..., scores=True)`."""
        return [child.scores(name) for child in self._children]


def fork_state(state: ProgramState, n: int, over: Iterable[object] | None) -> StateGroup:
    """Records the fork; see ProgramState.fork."""
    if over is not None:
        if isinstance(over, Ref | str) or n != 1:
            raise UsageError(f"fork(over=...) takes a list alone, got over={over!r} and n={n!r}")
        items = list(over)
    else:
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
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
