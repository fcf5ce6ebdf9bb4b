"""A value that is there, will be there, or never will be.

Knows who waits for it; does not know how it comes about.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.errors import FurcateError
    from furcate.protocol.message import Data, ValueMeta

__all__ = ["Cell", "Failure", "Outcome", "Ready", "Waiter"]


class Waiter(Protocol):
    """Something that goes on when a cell is resolved."""

    def advance(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Ready:
    """`data` travels to the client. `text` is what a Fill appends: None where that is not one text,
    as for the list of an n > 1. `source` is the value that it was copied from, if it was. `stops`
    are the texts that ended what was generated, one a sample. `is_choice`: the data is the index of
    the text. `meta` is what is known of how the value came about."""

    data: Data
    text: str | None
    source: int | None = None
    stops: tuple[str, ...] = ()
    is_choice: bool = False
    meta: ValueMeta | None = None

    @property
    def plain(self) -> Data:
        """What operations work on: of a choice its text."""
        return self.text if self.is_choice else self.data


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
    cells that it is computed from, where that is not the engine's work. `is_inner`: of a run of a
    region; the client knows the number, but not of which run. `is_parallel`: others of that number
    run beside it, so that pieces of its text would mix with theirs."""

    ordinal: int
    branch: int | None = None
    value: int | None = None
    outcome: Outcome | None = None  # set once, by Program.resolve
    waiters: list[Waiter] = field(default_factory=list)
    sources: Sequence[Cell] = ()
    is_inner: bool = False
    is_parallel: bool = False

    @property
    def copied(self) -> Outcome | None:
        """The outcome as another value gets it: a copy that says where it comes from."""
        outcome = self.outcome
        if isinstance(outcome, Ready) and outcome.source is None:
            return replace(outcome, source=self.value)
        return outcome

    def what_stopped(self) -> Ready:
        """Of a generation that is there: its stops as a value of their own."""
        assert isinstance(self.outcome, Ready)
        stops = self.outcome.stops
        return Ready(stops[0], stops[0]) if len(stops) == 1 else Ready(list(stops), None)
