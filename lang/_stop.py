"""`stop_loop`: the run of a loop that gets there is the last one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.errors import UsageError
from furcate.protocol.graph import Stop

from ._expr import Expr

if TYPE_CHECKING:
    from ._branch import Branch

__all__ = ["StopLoop", "record_stop", "stop_loop"]


@dataclass(frozen=True, slots=True)
class StopLoop(Expr):
    """Appended last in a body, or in place of the body of a case."""

    def __repr__(self) -> str:
        return "furcate.stop_loop"


stop_loop = StopLoop()


def record_stop(branch: Branch, location: str) -> None:
    """Raises UsageError where no loop is around it."""
    region = branch.program.region
    loop = region
    while loop is not None and not loop.is_loop:
        loop = loop.parent if loop.outer.number == loop.number else None
    if region is None or loop is None or branch is not region.branch:
        raise UsageError("stop_loop stands in no loop: use it in the body of s.loop or s.each")
    branch.program.record(Stop(branch.number), "stop_loop", location)
