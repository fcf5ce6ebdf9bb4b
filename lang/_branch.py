"""A branch of a program: its variables, its open role, and what was appended to it.

Held by the state that a program works with; the program itself knows branches by number only.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ._slot import Slot

if TYPE_CHECKING:
    from ._program import Program

__all__ = ["Branch", "Entry", "Gathered", "RoleMark", "Variable"]


@dataclass(frozen=True, slots=True)
class RoleMark:
    """In the log: a turn begins or ends here."""

    role: str
    edge: Literal["begin", "end"]


@dataclass(frozen=True, slots=True)
class Gathered:
    """A variable that a join has collected: one element a child, None where the child has none."""

    elements: tuple[Variable, ...]


@dataclass(frozen=True, slots=True)
class Local:
    """A variable that the program has set itself."""

    value: object


Entry = str | Slot | RoleMark
Variable = Slot | Gathered | Local | None


@dataclass(eq=False)
class Branch:
    """Written by the thread that runs the program's body."""

    program: Program
    number: int
    variables: dict[str, Variable] = field(default_factory=dict)
    log: list[Entry] = field(default_factory=list)
    fork_point: int = 0  # length of the log where this branch left its parent
    own: dict[str, Variable] = field(default_factory=dict)  # variables set on this branch
    role: str | None = None
    joined: bool = False
    item: object = None

    def set(self, name: str, variable: Variable) -> None:
        self.variables[name] = variable
        self.own[name] = variable
        if self.program.streams:
            self.program.results.poke()

    def child(self, number: int, item: object = None) -> Branch:
        """A branch that begins with everything this one has."""
        child = Branch(
            self.program,
            number,
            variables=dict(self.variables),
            log=list(self.log),
            fork_point=len(self.log),
            role=self.role,
            item=item,
        )
        drop = weakref.finalize(child, self.program.recording.dropped.append, number)
        drop.atexit = False
        return child
