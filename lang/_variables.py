"""Reading the variables of a branch: forcing them, and what they mean as references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.errors import ProgramError, UsageError
from furcate.protocol.graph import Operand, ValueRef

from ._branch import Elected, Gathered, Local
from ._output import TEXT
from ._ref import Ref, let
from ._session import recall
from ._slot import Slot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._branch import Branch, Variable
    from ._program import Program

__all__ = [
    "decided",
    "find",
    "force",
    "force_async",
    "partial",
    "ref_of",
    "ref_of_variable",
    "slot_of",
]


class UnknownVariable(UsageError, KeyError):
    """Also a KeyError, which `state["x"]` raises by custom."""

    __str__ = Exception.__str__


def find(branch: Branch, name: str, *, by_ref: bool = False) -> Variable:
    """The variable, to be read or, `by_ref`, to stay in the graph. Raises UsageError, also a
    KeyError, where there is none."""
    if name not in branch.variables and branch.session is not None:
        if branch.program.region is not None:
            raise UsageError(
                f"{name!r}, which may be a variable of the session, is used first in "
                f"{branch.enclosure}: take s.ref({name!r}) before it"
            )
        branch.variables[name] = recall(branch, name)
    if name not in branch.variables:
        known = ", ".join(repr(known) for known in branch.variables) or "none so far"
        raise UnknownVariable(f"no variable {name!r} on this branch; there are: {known}")
    region, variable = branch.program.region, branch.variables[name]
    return variable if region is None else region.seen(name, variable, by_ref=by_ref)


def force(program: Program, variable: Variable) -> object:
    """The value. A child's failure gives None in the list that a join has gathered."""
    match variable:
        case Slot():
            return program.value(variable)
        case Gathered(elements):
            return [_element(program, element) for element in elements]
        case Local(value):
            return value.get() if isinstance(value, Ref) else value
        case Elected():
            return force(program, decided(program, variable))
        case _:
            return None


async def force_async(program: Program, variable: Variable) -> object:
    """The same without blocking the event loop."""
    while isinstance(variable, Elected):
        await program.wait_async(variable.order)
        variable = decided(program, variable)
    for slot in _slots(variable):
        await program.wait_async(slot)
    if isinstance(variable, Local) and isinstance(variable.value, Ref):
        return await variable.value.aget()
    return force(program, variable)


def partial(program: Program, variable: Variable) -> object:
    """The value as far as it has come; waits for nothing."""
    match variable:
        case Slot():
            if not (program.streams or variable.settled):
                raise UsageError(
                    f"{variable.label} has nothing to show before it is there: run the program "
                    f"with stream=True, or with astart()"
                )
            return variable.partial()
        case Gathered(elements):
            return [partial(program, element) for element in elements]
        case Local(Ref() as ref):
            return partial(program, ref.slot)
        case Local(value):
            return value
        case Elected(order):
            return partial(program, variable.chosen) if order.settled and order.data else None
        case _:
            return None


def decided(program: Program, elected: Elected[Variable]) -> Variable:
    """The variable of the candidate that was chosen; waits for the choice."""
    program.value(elected.order)
    if elected.chosen is None:
        raise UsageError("the branch that was chosen has no such variable, another candidate has")
    return elected.chosen


def _element(program: Program, variable: Variable) -> object:
    try:
        return force(program, variable)
    except ProgramError:
        return None


def _slots(variable: Variable) -> list[Slot]:
    if isinstance(variable, Slot):
        return [variable]
    if isinstance(variable, Gathered):
        return [slot for element in variable.elements for slot in _slots(element)]
    return []


def slot_of(branch: Branch, name: str) -> Slot:
    """The variable as a generated value; UsageError if the program has set it itself."""
    variable = find(branch, name)
    while isinstance(variable, Elected):
        variable = decided(branch.program, variable)
    if not isinstance(variable, Slot):
        raise UsageError(f"{name!r} is not the result of one gen or select on this branch")
    return variable


def ref_of(branch: Branch, name: str) -> Ref:
    """A reference to the variable; nothing waits."""
    return ref_of_variable(branch.program, name, find(branch, name, by_ref=True))


def ref_of_variable(program: Program, name: str, variable: Variable) -> Ref:
    match variable:
        case Slot():
            return Ref(program, variable)
        case Local(Ref() as ref):
            return ref
        case Local(str(text)):
            return let(program, "concat", ("", text))
        case Gathered(elements):
            return _listed(program, name, elements)
        case Elected():
            return _picked(program, name, variable)
        case _:
            raise UsageError(
                f"{name!r} holds {variable!r}, which has no text: append str(...) of it"
            )


def _listed(program: Program, name: str, elements: Sequence[Variable]) -> Ref:
    """Of what a join has gathered, as far as it is plain text: a Ref of a list has one reading."""
    operands: list[Operand] = []
    for element in elements:
        if isinstance(element, Slot) and element.output is not TEXT:
            raise UsageError(
                f"{name!r} was gathered by a join and its values have a type: use "
                f"group.refs({name!r}), or read state[{name!r}]"
            )
        is_there = element is not None
        operands.append(_operand(program, name, element) if is_there else None)
    return let(program, "list", tuple(operands))


def _picked(program: Program, name: str, elected: Elected[Variable]) -> Ref:
    operands = tuple(_operand(program, name, variable) for variable in elected.elements)
    ref = let(program, "pick", (ValueRef(elected.order.value_id), elected.rank, *operands))
    ref.slot.samples = max(_samples(variable) for variable in elected.elements)
    return ref


def _operand(program: Program, name: str, variable: Variable) -> Operand:
    if program.region is not None:
        variable = program.region.seen(name, variable)
    match variable:
        case Slot():
            return ValueRef(variable.value_id)
        case Local(Ref() as ref):
            return ValueRef(ref.slot.value_id)
        case Local(str() | int() | float() | bool() | None as value):
            return value
        case Elected():
            return ValueRef(_picked(program, name, variable).slot.value_id)
        case None:
            return None
        case _:
            raise UsageError(f"{name!r} of a candidate has no text: append str(...) of its value")


def _samples(variable: Variable) -> int:
    if isinstance(variable, Elected):
        return max(_samples(element) for element in variable.elements)
    return variable.samples if isinstance(variable, Slot) else 1
