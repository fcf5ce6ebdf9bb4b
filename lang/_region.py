"""Bodies of control flow: recorded once, as a region that the runtime runs when it is to run.

While a body is recorded, nothing of it is sent and nothing can be read. Its state has the variables
from around it; what it sets comes out. Values and branches of a body belong to it: outside they
mean nothing, because inside they mean something else in each run.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from furcate.errors import UsageError
from furcate.protocol.graph import Drop, Operand, Recall, Root, Stop, ValueRef

from ._branch import Branch, Flow, Gathered, Local
from ._enclosure import Enclosure
from ._expr import Expr
from ._location import caller_location
from ._ref import Ref, let
from ._slot import Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._branch import Variable
    from ._program import Program
    from ._recording import Recorded
    from ._state import ProgramState

__all__ = ["Region", "before", "call_body", "open_region", "slot_for"]


@dataclass(eq=False)
class Region:
    """Of one body: `number` is that of its branch, `outer` the branch around it. `carried` are, in
    a loop, what stands for variables as they are when a run begins."""

    program: Program
    outer: Branch
    number: int
    enclosure: Enclosure
    is_loop: bool = False
    parent: Region | None = field(init=False)
    branch: Branch = field(init=False)
    known: dict[str, Variable] = field(init=False)
    first_value: int = field(init=False)
    carried: dict[str, Slot] = field(default_factory=dict)
    read_plainly: dict[str, str] = field(default_factory=dict)  # where, by the variable's name
    open_groups: list[Callable[[], None]] = field(default_factory=list)
    stop: Recorded | None = None
    _recorded: list[Recorded] = field(default_factory=list)
    _is_closing: bool = False

    def __post_init__(self) -> None:
        outer = self.outer
        self.parent = self.program.region
        self.known = dict(outer.variables)
        self.first_value = len(self.program.results.slots)
        branch = Branch(self.program, self.number, dict(self.known), enclosure=self.enclosure)
        branch.role, branch.session, branch.item = outer.role, outer.session, outer.item
        branch.lineage, branch.scopes = outer.lineage, set(outer.scopes)
        self.branch = branch

    @contextmanager
    def entered(self) -> Iterator[None]:
        """What is recorded inside is the region's."""
        if self.program.region is not self.parent:
            raise UsageError(f"{self.enclosure} cannot be added to from inside another body")
        self.program.region = self
        try:
            yield
        finally:
            self.program.region = self.parent

    def record(self, recorded: Recorded) -> None:
        if isinstance(recorded.node, Root | Recall | Drop):
            raise UsageError(f"{recorded.label} cannot stand inside {self.enclosure}: do it before")
        if self.stop is not None and not self._is_closing:
            raise UsageError(
                f"{recorded.label} comes after the stop_loop at {self.stop.location}: nothing can"
            )
        if isinstance(recorded.node, Stop):
            self.stop = recorded
        else:
            self._recorded.append(recorded)

    @property
    def recorded(self) -> tuple[Recorded, ...]:
        return (*self._recorded, *([self.stop] if self.stop is not None else []))

    # Variables -----------------------------------------------------------------------------------

    def seen(self, name: str, variable: Variable, *, by_ref: bool = True) -> Variable:
        """What a variable from around the region is inside; `by_ref` where it stays in the
        graph."""
        if name not in self.known or self.known[name] is not variable:
            return variable  # set inside
        if self.is_loop:
            is_plain = isinstance(variable, Local) and not isinstance(variable.value, Ref)
            if by_ref or not is_plain:
                return self.carry(name)
            self.read_plainly.setdefault(name, caller_location())
        return variable if self.parent is None else self.parent.seen(name, variable, by_ref=by_ref)

    def carry(self, name: str) -> Slot:
        """Of a loop: what stands for the variable as it is when a run begins."""
        slot = self.carried.get(name)
        if slot is None:
            label = f"{name!r} in {self.enclosure.what}"
            slot = self.program.new_slot(label, caller_location(), None)
            slot.name, slot.enclosure = name, self.enclosure
            self.carried[name] = slot
        return slot

    def earlier(self, name: str) -> Slot | None:
        """A variable that nothing here has set so far: an earlier run may have."""
        if self.is_loop:
            return self.carry(name)
        is_same_branch = self.parent is not None and self.parent.number == self.number
        return self.parent.earlier(name) if self.parent is not None and is_same_branch else None

    def close(self, *, may_not_run: bool = False) -> dict[str, Slot]:
        """Ends what is open; the variables that come out. Recorded in the region. Those of a loop
        that may not run at all are values of their own: the runtime tells them apart by these."""
        branch = self.branch
        for end in list(self.open_groups):
            end()
        if branch.role != self.outer.role:
            raise UsageError(
                f"{self.enclosure} begins in the role {self.outer.role!r} and ends in "
                f"{branch.role!r}: a body leaves the role as it has found it"
            )
        for name in branch.own:
            if name in self.read_plainly:
                raise UsageError(
                    f"{name!r} is read as a Python value at {self.read_plainly[name]} and set in "
                    f"{self.enclosure}, which is recorded once: it would never change. Use the "
                    f"number of the run, which a body gets as its second argument, or s.ref"
                )
        self._is_closing = True
        try:
            own = branch.own.items()
            finals = {name: slot_for(self.program, name, value) for name, value in own}
            return self._apart(finals) if may_not_run else finals
        finally:
            self._is_closing = False

    def _apart(self, finals: dict[str, Slot]) -> dict[str, Slot]:
        taken = set(self.carried.values())
        for name, slot in finals.items():
            if slot in taken:
                copied = let(self.program, "vote", (ValueRef(slot.value_id),)).slot
                finals[name] = copied
            taken.add(slot)
        return finals

    def flow(self) -> Flow:
        """For the log of the branch around."""
        end = len(self.program.results.slots)
        return Flow(self.outer.number, self.enclosure.what, self.first_value, end)


def open_region(outer: Branch, what: str, location: str, *, is_loop: bool = False) -> Region:
    """One that runs on the branch itself."""
    program = outer.program
    enclosure = Enclosure(what, location, outer.enclosure)
    return Region(program, outer, outer.number, enclosure, is_loop)


def before(outer: Branch, name: str) -> Slot | None:
    """What the variable is before control flow on this branch; None where it is nothing."""
    program, region = outer.program, outer.program.region
    variable = outer.variables.get(name)
    if variable is not None:
        return slot_for(program, name, region.seen(name, variable) if region else variable)
    if region is not None and region.number == outer.number:
        return region.earlier(name)
    return None


def slot_for(program: Program, name: str, variable: Variable) -> Slot:
    """The variable as one value of the graph; records what makes it one."""
    from ._variables import ref_of_variable  # which finds variables through regions

    match variable:
        case Slot():
            return variable
        case Local(str() | int() | float() | bool() | None as value):
            return let(program, "vote", (value,)).slot  # of one operand it is that one
        case Gathered(elements):
            found = tuple(_operand(program, name, element) for element in elements)
            return let(program, "list", found).slot
        case Local(value) if not isinstance(value, Ref):
            raise UsageError(
                f"{name!r} is {value!r}, which cannot go into or come out of a body: text, "
                f"numbers, bools, None and Refs can"
            )
        case _:
            return ref_of_variable(program, name, variable).slot


def _operand(program: Program, name: str, variable: Variable) -> Operand:
    return None if variable is None else ValueRef(slot_for(program, name, variable).value_id)


# Bodies ------------------------------------------------------------------------------------------


def call_body(body: object, what: str, state: ProgramState, *given: object) -> object:
    """Calls the body with the state and as much of the rest as it takes; an expression is
    appended."""
    if isinstance(body, Expr | str):
        state += body
        return None
    if not callable(body) or inspect.iscoroutinefunction(body):
        raise UsageError(f"{what} takes a plain function of a state as its body, got {body!r}")
    num_taken = _num_positional(body)
    if num_taken < 1:
        raise UsageError(f"the body of {what} takes the state as its first argument: {body!r}")
    return body(state, *given[: num_taken - 1])


def _num_positional(body: Callable[..., object]) -> int:
    """Without those that have a default: they are the body's own."""
    count = 0
    for parameter in inspect.signature(body).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            return 8
        is_positional = parameter.kind in (
            parameter.POSITIONAL_ONLY,
            parameter.POSITIONAL_OR_KEYWORD,
        )
        count += is_positional and parameter.default is parameter.empty
    return count
