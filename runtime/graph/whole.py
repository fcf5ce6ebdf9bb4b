"""A node of a stream that says nothing before it is done: all at once, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from furcate.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .cell import Cell, Failure
    from .program import Program
    from .stream import Stream

__all__ = ["WholeTask"]


class WholeTask:
    """A Task without its `complete`, and the owner of a stream that is there for it alone: what
    fails is `cell`. `what` names the node in errors."""

    what: ClassVar[str]

    def __init__(self, program: Program, cell: Cell) -> None:
        self._program = program
        self._cell = cell

    def take(self, ids: Sequence[int]) -> None:
        raise WireError(f"the engine reports tokens of {self.what}")

    def begin_again(self) -> None:
        pass  # nothing is known of it before it is done

    def fail(self, failure: Failure) -> None:
        self._program.resolve(self._cell, failure)

    def cancel(self, failure: Failure) -> None:
        self.fail(failure)

    def fail_from(self, stream: Stream, node: int, failure: Failure) -> None:
        self.fail(failure)
