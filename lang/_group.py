"""Groups of states: working on all of them, and going on from some of them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Self, TypeAlias, overload

from furcate.errors import ProgramError, UsageError
from furcate.protocol.graph import Join, ValueRef

from ._branch import Gathered
from ._elect import elect
from ._expr import Expr
from ._location import caller_location
from ._numbers import is_integer
from ._record import check_open
from ._ref import Ref, foreign, let
from ._state import ProgramState
from ._variables import ref_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ._branch import Branch
    from ._meta import Scores

    Member: TypeAlias = "ProgramState | StateGroup"
    Appended: TypeAlias = Expr | str | ProgramState
    Spread: TypeAlias = Appended | Sequence[Appended] | Callable[[int], Appended]

__all__ = ["StateGroup"]

_MODES = {
    "gather": "gather",
    "gather_variable": "gather",
    "append": "append",
    "concate_and_append": "append",
}


class StateGroup:
    """States that are worked on together, such as the children of a fork: `group[i]`, slices,
    iteration, `len(group)`; `group["x"]` is the list of their variables.

    `group += x` appends x to each; a list gives each its own, a function is called with the
    index. A group that `map` has made may hold groups: `flatten()` makes it one of states.
    """

    def __init__(self, parent: ProgramState, members: Sequence[Member]) -> None:
        self._parent = parent
        self._members: tuple[Member, ...] = tuple(members)

    def __len__(self) -> int:
        return len(self._members)

    @overload
    def __getitem__(self, index: int) -> ProgramState: ...
    @overload
    def __getitem__(self, index: slice) -> StateGroup: ...
    @overload
    def __getitem__(self, index: str) -> list[object]: ...
    def __getitem__(self, index: int | slice | str) -> object:
        if isinstance(index, str):
            return [member[index] for member in self._members]
        if isinstance(index, slice):
            return StateGroup(self._parent, self._members[index])
        return self._members[index]

    def __setitem__(self, index: int, value: ProgramState) -> None:
        """What `group[0] += x` does at its end; nothing else can be set."""
        if value is not self._members[index]:
            raise UsageError(f"a group keeps its states: append with group[{index!r}] += x")

    def __iter__(self) -> Iterator[ProgramState]:
        return iter(self._members)  # type: ignore[arg-type]  # groups are for those who made them

    def __iadd__(self, other: Spread) -> Self:
        for child, expr in zip(self._members, self._spread(other), strict=True):
            member = child
            member += expr  # type: ignore[operator, assignment]  # what _spread gives
        return self

    def _spread(self, other: Spread) -> Sequence[Appended]:
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

    # Shape ---------------------------------------------------------------------------------------

    def map(self, function: Callable[..., Member | None]) -> StateGroup:
        """The group of what `function(member)` returns, or `function(member, index)` where it takes
        two arguments: a state, a group, or nothing for the member itself.

        It only records: each member goes on as soon as what it depends on is there.
        """
        if not callable(function):
            raise UsageError(f"map() takes a function of a state, got {function!r}")
        with_index = _takes_two(function)
        members: list[Member] = []
        for index, member in enumerate(self._members):
            result = function(member, index) if with_index else function(member)
            if result is not None and not isinstance(result, ProgramState | StateGroup):
                raise UsageError(
                    f"map() needs a function that returns a state, a group or nothing, "
                    f"got {result!r}"
                )
            members.append(member if result is None else result)
        return StateGroup(self._parent, members)

    def flatten(self) -> StateGroup:
        """All states of the group and of the groups in it, in order."""
        return StateGroup(self._parent, self._states())

    def _states(self) -> list[ProgramState]:
        found: list[ProgramState] = []
        for member in self._members:
            found += member._states() if isinstance(member, StateGroup) else [member]
        return found

    # Choosing ------------------------------------------------------------------------------------

    def best(
        self, key: str | Callable[[ProgramState], Ref | str | float], keep: int = 1
    ) -> StateGroup:
        """Goes on from the `keep` states with the greatest keys, the best first; the others are
        cancelled with all that was forked off them. Nothing waits: the runtime decides.

        A key is a variable, by name, or what a function of the state gives: a number, or text that
        spells one. Of equal keys the first comes first; a state without a number comes last, and if
        none has one, what follows fails. The new states have their candidate's variables.
        """
        branches = self._candidates("best()")
        if not is_integer(keep) or not 1 <= keep <= len(branches):
            raise UsageError(f"best() keeps 1 to {len(branches)} of this group, got {keep!r}")
        keys = [self._key(state, key) for state in self._states()]
        elected = elect(branches, keys, "best", keep)
        return StateGroup(self._parent, [ProgramState(branch) for branch in elected])

    def first(self, condition: str | Callable[[ProgramState], Ref | bool]) -> ProgramState:
        """Goes on from the first state for which the condition holds, decided as soon as that is
        known; the others are cancelled with all that was forked off them. Nothing waits.

        A condition is a variable, by name, or what a function of the state gives, such as
        `child.ref("x").eq("yes")`. If it holds for none, what follows fails.
        """
        branches = self._candidates("first()")
        keys = [self._condition(state, condition) for state in self._states()]
        return ProgramState(elect(branches, keys, "first", 1)[0])

    def vote(self, name: str) -> Ref:
        """The value of the variable that most states have, the first of equals, by reference. It
        fails if one of them has failed."""
        states = self._voters("vote()")
        refs = [state.ref(name) for state in states]
        operands = tuple(ValueRef(ref.slot.value_id) for ref in refs)
        ref = let(states[0]._program, "vote", operands)
        ref.slot.samples = max(each.slot.samples for each in refs)
        return ref

    def cancel(self) -> None:
        """Ends these branches with all that was forked off them; the program goes on."""
        for state in self._states():
            state.cancel()

    def _voters(self, what: str) -> Sequence[ProgramState]:
        if not self._members:
            raise UsageError(f"{what} of an empty group: there is nothing to choose from")
        if any(isinstance(member, StateGroup) for member in self._members):
            raise UsageError(f"{what} of a group of groups: flatten() it first, or map() over it")
        return self._states()

    def _candidates(self, what: str) -> Sequence[Branch]:
        branches = [state._branch for state in self._voters(what)]
        numbers = {branch.number for branch in branches}
        if len(numbers) < len(branches):
            raise UsageError(f"{what} needs different states, one is in the group twice")
        for branch in branches:
            check_open(branch)
            if numbers.intersection(branch.lineage):
                raise UsageError(f"{what} needs states of which none was forked off another")
        return branches

    def _key(self, state: ProgramState, key: object) -> Ref:
        found = key(state) if callable(key) else key
        if callable(key) and isinstance(found, str | int | float):
            return let(state._program, "concat", ("", str(found)))
        return self._as_ref(state, found, "best()", "a number")

    def _condition(self, state: ProgramState, condition: object) -> Ref:
        found = condition(state) if callable(condition) else condition
        if callable(condition) and isinstance(found, bool):
            return let(state._program, "eq", (found, True))
        return self._as_ref(state, found, "first()", "a condition")

    def _as_ref(self, state: ProgramState, found: object, what: str, wanted: str) -> Ref:
        if isinstance(found, str):
            found = ref_of(state._branch, found)
        if not isinstance(found, Ref):
            raise UsageError(
                f"{what} takes the name of a variable or a function of a state that gives "
                f"{wanted}, got {found!r}"
            )
        if found.program is not state._program:
            raise foreign(found, state._program, f"{what} takes a Ref of the state that it gets")
        return found

    # Joining -------------------------------------------------------------------------------------

    def join(self, mode: str = "gather") -> None:
        """Ends the group's own life.

        "gather": each variable that a child has set becomes, in the parent, the list of the
        children's values; a child that failed has None there and its error in `errors`.
        "append": the parent goes on with what each child has appended, in order. Waits for nothing.
        """
        if mode not in _MODES:
            raise UsageError(f"join() mode must be 'gather' or 'append', got {mode!r}")
        parent = self._parent._branch
        branches = [state._branch for state in self._states()]
        check_open(parent)
        for branch in branches:
            if branch.joined:
                raise UsageError("the group has been joined already")
            if branch.role != parent.role:
                raise UsageError(f"a child is joined with its role {branch.role!r} open: end it")
        if _MODES[mode] == "gather":
            parent.program.joined.update(branch.number for branch in branches)
            self._gather(branches)
        elif branches:
            self._append(parent, branches)
        for branch in branches:
            branch.close("join()")

    def _append(self, parent: Branch, branches: Sequence[Branch]) -> None:
        if any(b.is_elected or b.lineage[-1:] != (parent.number,) for b in branches):
            raise UsageError(
                "join('append') takes children that the state itself has forked: append the "
                "values of others, such as s += child.ref('x')"
            )
        for branch in branches:
            parent.log.extend(branch.log[branch.fork_point :])
        numbers = tuple(branch.number for branch in branches)
        parent.program.record(Join(parent.number, numbers), "join", caller_location())

    def _gather(self, branches: Sequence[Branch]) -> None:
        names = dict.fromkeys(name for branch in branches for name in branch.own)
        for name in names:
            elements = tuple(branch.own.get(name) for branch in branches)
            self._parent._branch.set(name, Gathered(elements))

    # Reading -------------------------------------------------------------------------------------

    @property
    def errors(self) -> list[ProgramError | None]:
        """One element a child: its error or None. Waits for the children."""
        return [state.error() for state in self._states()]

    def refs(self, name: str) -> list[Ref]:
        """The children's variable, by reference."""
        return [state.ref(name) for state in self._states()]

    def samples(self, name: str) -> list[list[Any]]:
        """All that the children's `gen(name, n=...)` have said."""
        return [state.samples(name) for state in self._states()]

    def scores(self, name: str) -> list[Scores]:
        """The children's scores of a `select(..., scores=True)`."""
        return [state.scores(name) for state in self._states()]


def _takes_two(function: Callable[..., object]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return len(needed) == 2
