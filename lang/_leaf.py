"""What a rewritten body calls in place of `x["name"]`; see _peephole.py.

Where a value of the same running program is about to be appended and is plain text, it stays a
reference. In every other case this does exactly what the body says.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING

from ._body import running_body
from ._branch import Elected
from ._expr import Concat, Expr, as_expr
from ._group import StateGroup
from ._ref import Leaf, join
from ._role import assistant, system, user
from ._slot import Slot
from ._state import ProgramState

if TYPE_CHECKING:
    from ._branch import Variable
    from ._program import Program

__all__ = ["leaf", "text"]

_PLACES = (system, user, assistant, join)
_ROLE_METHODS = (
    ProgramState.system,
    ProgramState.user,
    ProgramState.assistant,
    ProgramState.message,
)


def leaf(container: object, key: object, place: object) -> object:
    """`container[key]`, which is about to be appended to `place`: a state, a group, or the function
    that it is an argument of."""
    if isinstance(container, ProgramState) and isinstance(key, str):
        branch, program = container._branch, container._program
        if (
            _program_of(place) is program
            and not program.recording.done
            and _is_plain(branch.variables.get(key))
        ):
            return Leaf(program, container.ref(key).slot)
    return container[key]  # type: ignore[index]  # whatever the body indexes


def text(*parts: object) -> Expr | str:
    """The parts of an f-string; plain strings alone give a plain string."""
    shown = [part if isinstance(part, Leaf) else format(part) for part in parts]
    texts = [part for part in shown if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(shown) else Concat(tuple(map(as_expr, shown)))


def _program_of(place: object) -> Program | None:
    """The program that a value is appended to there; None if it is none."""
    if isinstance(place, ProgramState):
        return place._program
    if isinstance(place, StateGroup):
        return place._parent._program
    if isinstance(place, MethodType) and place.__func__ in _ROLE_METHODS:
        return _program_of(place.__self__)
    if any(place is function for function in _PLACES):
        frame = running_body()
        return frame.program() if frame is not None else None
    return None


def _is_plain(variable: Variable) -> bool:
    if isinstance(variable, Elected):
        return all(map(_is_plain, variable.elements))
    return (
        isinstance(variable, Slot)
        and variable.is_output
        and variable.output.parse is None
        and variable.samples == 1
    )
