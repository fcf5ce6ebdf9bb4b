"""What comes out of regions: copies of the values inside.

A value that no run has set fails as "unset", and so does every copy of it; that is a failure of
those alone who read it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from furcate.errors import Unset

from .cell import Cell, Failure, Ready

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.message import Data, Element

    from .program import Program

__all__ = ["Copy", "Gather", "copy", "unset"]


def unset(ordinal: int) -> Failure:
    why = "nothing that was run has set it; give it a value before, or in every case"
    return Failure(Unset.code, why, ordinal)


def copy(program: Program, out: Cell, source: Cell | None) -> None:
    """`out` becomes what `source` is, whenever that is known."""
    if source is None:
        program.resolve(out, unset(out.ordinal))
    else:
        out.sources = (source,)
        program.derive(Copy(program, out, source))


@dataclass(slots=True, eq=False)
class Copy:
    program: Program
    out: Cell
    source: Cell

    def advance(self) -> None:
        outcome = self.source.copied
        if outcome is None:
            self.source.waiters.append(self)
            return
        if isinstance(outcome, Failure) and outcome.code != Unset.code:
            outcome = outcome.upstream()
        self.program.resolve(self.out, outcome)


def _shallow(data: Data) -> Element | list[Element]:
    """An element as it travels in a list: lists in it hold no further ones but as JSON text."""
    if not isinstance(data, list):
        return data
    return [msgspec.json.encode(e).decode() if isinstance(e, list) else e for e in data]


@dataclass(slots=True, eq=False)
class Gather:
    """A list of what each of `parts` has come to, None for those that failed."""

    program: Program
    out: Cell
    parts: Sequence[Cell | None]
    elements: list[Element | list[Element]] = field(default_factory=list)
    sources: set[int | None] = field(default_factory=set)

    def advance(self) -> None:
        while len(self.elements) < len(self.parts):
            part = self.parts[len(self.elements)]
            outcome = None if part is None else part.copied
            if part is not None and outcome is None:
                part.waiters.append(self)
                return
            if isinstance(outcome, Ready):
                self.elements.append(_shallow(outcome.plain))
                self.sources.add(outcome.source)
            else:
                self.elements.append(None)
        source = self.sources.pop() if len(self.sources) == 1 else None
        self.program.resolve(self.out, Ready(self.elements, None, source))
