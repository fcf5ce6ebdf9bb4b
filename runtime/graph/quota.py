"""What one connection has running, and whether there is room for more.

A client that looks at its Welcome counts in the same way, and goes beyond that only with programs
that others of its own wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.errors import Overloaded
from furcate.protocol.graph import Text
from furcate.protocol.message import INNER_ROOM, PROGRAM_BYTES

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
        """A program begins, and grows by its first delta; raises Overloaded where it has no
        room."""
        limit = INNER_ROOM * self._limits.open_programs
        if len(self._running) >= limit:
            raise Overloaded(
                f"{limit} programs of this client run already, {INNER_ROOM} times --max-programs"
            )
        if self.num_bytes >= INNER_ROOM * self._limits.open_bytes:
            raise Overloaded(self._too_large(PROGRAM_BYTES))
        self._add(graph.program, PROGRAM_BYTES)

    def grow(self, graph: Graph) -> None:
        """More of a program; raises Overloaded where that has no room."""
        size = _text_of(graph)
        if graph.program not in self._running or not size:
            return
        too_large = self.num_bytes + size > INNER_ROOM * self._limits.open_bytes
        if too_large and len(self._running) > 1:
            raise Overloaded(self._too_large(size))
        self._add(graph.program, size)

    def end(self, program: int) -> None:
        """Callable for any program."""
        self.num_bytes -= self._running.pop(program, 0)

    def _too_large(self, size: int) -> str:
        return (
            f"the programs of this client that run have {self.num_bytes} bytes together, and with "
            f"{size} more they would be over {INNER_ROOM} times --max-program-bytes"
        )

    def _add(self, program: int, size: int) -> None:
        self._running[program] = self._running.get(program, 0) + size
        self.num_bytes += size


def _text_of(graph: Graph) -> int:
    """Texts in the connection's table are nobody's in particular."""
    texts = (node.text for node in graph.nodes if isinstance(node, Text))
    return sum(len(text) for text in texts if isinstance(text, str))
