"""Reading the variables of a branch: forcing them, and what they mean as references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.errors import ProgramError, UsageError

from ._branch import Gathered, Local
from ._ref import Ref, let
from ._slot import Slot

if TYPE_CHECKING:
    from ._branch import Branch, Variable
    from ._program import Program

__all__ = ["find", "force", "force_async", "ref_of", "slot_of"]


class _UnknownVariable(UsageError, KeyError):
    """Also a KeyError, which `state["x"]` raises by custom."""

    __str__ = Exception.__str__


def find(branch: Branch, name: str) -> Variable:
    """The variable; raises UsageError, also a KeyError, where there is none."""
    if name not in branch.variables:
        known = ", ".join(repr(known) for known in branch.variables) or "none so far"
        raise _UnknownVariable(f"no variable {name!r} on this branch; there are: {known}")
    return branch.variables[name]


def force(program: Program, variable: Variable) -> object:
    """The value. A child's failure gives None in the list that a join has gathered."""
    match variable:
        case Slot():
            return program.value(variable)
        case Gathered(elements):
            return [_element(program, element) for element in elements]
        case Local(value):
            return value.get() if isinstance(value, Ref) else value
        case _:
            return None


async def force_async(program: Program, variable: Variable) -> object:
    """The same without blocking the event loop."""
    for slot in _slots(variable):
        await program.wait_async(slot)
    if isinstance(variable, Local) and isinstance(variable.value, Ref):
        return await variable.value.aget()
    return force(program, variable)


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
    if not isinstance(variable, Slot):
        raise UsageError(f"{name!r} is not the result of one gen or select on this branch")
    return variable


def ref_of(branch: Branch, name: str) -> Ref:
    """A reference to the variable; nothing waits."""
    variable = find(branch, name)
    match variable:
        case Slot():
            return Ref(branch.program, variable)
        case Local(Ref() as ref):
            return ref
        case Local(str(text)):
            return let(branch.program, "concat", ("", text))
        case Gathered():
            raise UsageError(f"{name!r} was gathered by a join: use group.refs({name!r})")
        case _:
            raise UsageError(
                f"{name!r} holds {variable!r}, which has no text: append str(...) of it"
            )
