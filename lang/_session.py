"""Sessions: what a branch says, kept by the runtime under a name for other programs to begin from.

The text, its ids and the values stay on the other side; what of them is read here is asked for by
name. Knows no states and no runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec

from furcate.errors import UsageError
from furcate.protocol.graph import Recall, Root, Save, ValueRef

from ._branch import Elected, Gathered, Local, seen
from ._location import caller_location
from ._numbers import is_number
from ._ref import Ref, let
from ._slot import Slot

if TYPE_CHECKING:
    from ._branch import Branch, Variable

__all__ = [
    "Opened",
    "check_session_name",
    "check_ttl",
    "names_of",
    "open_session",
    "recall",
    "save",
    "turns_of",
]

MAX_NAME = 256
Scalar = str | int | float | bool | None


@dataclass(eq=False, slots=True)
class Opened:
    """The session that a program's own state began from. `recalled` are the values that were
    asked for, `lists` the answers about the whole of it."""

    name: str
    branch: int
    recalled: dict[str, Slot] = field(default_factory=dict)
    lists: dict[str, Slot] = field(default_factory=dict)

    def is_its(self, name: str, variable: Variable) -> bool:
        """What the branch has under the name is the session's value."""
        return isinstance(variable, Slot) and self.recalled.get(name) is variable


def check_session_name(name: object) -> str:
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
        raise UsageError(
            f"a session is named by a string of 1 to {MAX_NAME} characters, got {name!r}"
        )
    return name


def check_ttl(ttl_s: float | None) -> float | None:
    """Raises UsageError for what is no time."""
    if ttl_s is None:
        return None
    if not is_number(ttl_s) or not (math.isfinite(ttl_s) and ttl_s > 0):
        raise UsageError(f"ttl must be a positive number of seconds, got {ttl_s!r}")
    return float(ttl_s)


def open_session(branch: Branch, name: str) -> None:
    """The first node of a program: its own branch goes on from what was saved."""
    branch.session = Opened(name, branch.number)
    label = f"open session {name!r}"
    branch.program.record(Root(branch.number, session=name), label, caller_location())


def save(branch: Branch, name: str, ttl_s: float | None) -> None:
    """Records that the branch is kept as it is here, with its variables."""
    check_session_name(name)
    ttl_s = check_ttl(ttl_s)
    if branch.role is not None:
        raise UsageError(
            f"session {name!r} is saved inside the role {branch.role!r}: end the role first"
        )
    session = branch.session
    variables = {
        key: seen(branch, key)
        for key, variable in branch.variables.items()
        if session is None or not session.is_its(key, variable)  # the runtime has those
    }
    refs = {key: _ref_of(branch, value) for key, value in variables.items()}
    kept = tuple((key, ref.slot.value_id) for key, ref in refs.items() if ref is not None)
    node = Save(branch.number, name, kept, ttl_s)
    branch.program.record(node, f"save {name!r}", caller_location())


def recall(branch: Branch, name: str) -> Slot:
    """The value of that name in the session; one that is unknown there fails when it is read."""
    session = branch.session
    assert session is not None
    slot = session.recalled[name] = _ask(branch, session, "value", name)
    return slot


def names_of(branch: Branch) -> Slot | None:
    """The names in the session that the branch began from, as a value."""
    return _list(branch, "names")


def turns_of(branch: Branch) -> Slot | None:
    """Its turns, a list of pairs of role and text."""
    return _list(branch, "turns")


def _list(branch: Branch, what: Literal["names", "turns"]) -> Slot | None:
    session = branch.session
    if session is None:
        return None
    if what not in session.lists:
        session.lists[what] = _ask(branch, session, what)
    return session.lists[what]


def _ask(
    branch: Branch, session: Opened, what: Literal["value", "names", "turns"], name: str = ""
) -> Slot:
    program, location = branch.program, caller_location()
    label = f"{name!r} of session {session.name!r}" if name else f"{what} of {session.name!r}"
    slot = program.new_slot(label, location, None)
    program.record(Recall(session.branch, slot.value_id, name, what), label, location)
    return slot


def _ref_of(branch: Branch, variable: Variable) -> Ref | None:
    """The variable as a value of the graph; None for an object that has no place there."""
    program = branch.program
    match variable:
        case Slot() if variable.choices is not None:  # its own value is an index
            return let(program, "concat", ("", ValueRef(variable.value_id)))
        case Slot():
            return Ref(program, variable)
        case Local(Ref() as ref) if ref.program is program:
            return ref
        case Local(str() | int() | float() | bool() | None as value):
            return let(program, "item", (msgspec.json.encode([value]).decode(), 0))
        case Gathered(elements):
            refs = [_ref_of(branch, element) for element in elements]
            operands = [None if ref is None else ValueRef(ref.slot.value_id) for ref in refs]
            return let(program, "list", tuple(operands))
        case Elected(order, rank, candidates):
            refs = [_ref_of(branch, candidate) for candidate in candidates]
            operands = [None if ref is None else ValueRef(ref.slot.value_id) for ref in refs]
            return let(program, "pick", (ValueRef(order.value_id), rank, *operands))
        case _:
            return None
