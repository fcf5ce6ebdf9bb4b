"""A value that is there, will be there, or never will be.

Knows who waits for it; does not know how it comes about.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.errors import FurcateError
    from furcate.protocol.message import Data

__all__ = ["Cell", "Failure", "Outcome", "Ready", "Waiter"]


class Waiter(Protocol):
    """Something that goes on when a cell is resolved."""

    def advance(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Ready:
    """`data` travels to the client. `text` is what a Fill appends: None where that is not one text,
    as for the list of an n > 1."""

    data: Data
    text: str | None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no value. `node` is the ordinal of the node at the root of it."""

    code: str
    message: str
    node: int
    pointer: str | None = None

    @classmethod
    def of(cls, error: FurcateError, node: int) -> Failure:
        return cls(error.code, str(error), node, getattr(error, "pointer", None))

    def upstream(self) -> Failure:
        """What this means for a node that depends on the failed one."""
        if self.code == "upstream":
            return self
        return Failure(
            "upstream", f"needs node {self.node}: {self.code}: {self.message}", self.node
        )


Outcome = Ready | Failure


@dataclass(slots=True, eq=False)
class Cell:
    """`value` is None for a part of the graph that the client has no name for. `sources` are the
    cells that it is computed from, where that is not the engine's work."""

    ordinal: int
    branch: int | None = None
    value: int | None = None
    outcome: Outcome | None = None  # set once, by Program.resolve
    waiters: list[Waiter] = field(default_factory=list)
    sources: Sequence[Cell] = ()
