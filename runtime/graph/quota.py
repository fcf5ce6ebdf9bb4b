"""What one connection has running, and whether there is room for more.

A client that looks at its Welcome never asks for more: it counts in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.errors import Overloaded
from furcate.protocol.graph import Text
from furcate.protocol.message import PROGRAM_BYTES

if TYPE_CHECKING:
    from furcate.protocol.message import Graph

    from .limits import Limits

__all__ = ["Quota"]


class Quota:
    def __init__(self, limits: Limits) -> None:
        self.num_bytes = 0
        self._limits = limits
        self._running: dict[int, int] = {}  # bytes by program

    def __len__(self) -> int:
        return len(self._running)

    def open(self, graph: Graph) -> None:
        """A program begins; raises Overloaded where it has no room."""
        limits = self._limits
        if len(self._running) >= limits.open_programs:
            raise Overloaded(
                f"{limits.open_programs} programs of this client run already (--max-programs)"
            )
        size = PROGRAM_BYTES + _text_of(graph)
        if self.num_bytes >= limits.open_bytes:
            raise Overloaded(
                f"the programs of this client that run have {self.num_bytes} bytes together, and "
                f"{limits.open_bytes} are the limit (--max-program-bytes)"
            )
        self._add(graph.program, size)

    def grow(self, graph: Graph) -> None:
        """More of a program; raises Overloaded where that has no room. Its client cannot wait with
        it, so that it may have as much again."""
        if graph.program not in self._running:
            return  # it has finished
        size = _text_of(graph)
        limit = 2 * self._limits.open_bytes
        if size and self.num_bytes + size > limit and len(self._running) > 1:
            raise Overloaded(
                f"the programs of this client that run have {self.num_bytes} bytes, and with "
                f"{size} more they would be over twice {self._limits.open_bytes} "
                "(--max-program-bytes)"
            )
        self._add(graph.program, size)

    def end(self, program: int) -> None:
        """Callable for any program."""
        self.num_bytes -= self._running.pop(program, 0)

    def _add(self, program: int, size: int) -> None:
        self._running[program] = self._running.get(program, 0) + size
        self.num_bytes += size


def _text_of(graph: Graph) -> int:
    """Texts in the connection's table are nobody's in particular."""
    texts = (node.text for node in graph.nodes if isinstance(node, Text))
    return sum(len(text) for text in texts if isinstance(text, str))
