"""The constraints that the front has defined, and the streams that wait for one to be compiled.

Knows tickets; does not compile, and does not know what a stream does with its grammar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.runtime.constrain.longest import longest_output

if TYPE_CHECKING:
    from furcate.protocol.constraint import Constraint
    from furcate.runtime.constrain.service import CompileService, Ticket

    from .stream import Stream

__all__ = ["Constraints"]


class Constraints:
    """A stream that waits keeps its ticket, whether or not the constraint is dropped meanwhile."""

    def __init__(self, service: CompileService) -> None:
        self._service = service
        self._tickets: dict[int, Ticket] = {}
        self._longest: dict[int, int | None] = {}  # tokens of an output
        self._waiting: dict[Stream, Ticket] = {}

    def define(self, key: int, constraint: Constraint) -> None:
        """Compilation starts at once."""
        self._tickets[key] = self._service.request(constraint)
        self._longest[key] = longest_output(constraint)

    def drop(self, key: int) -> None:
        self._tickets.pop(key, None)
        self._longest.pop(key, None)

    def ticket(self, key: int) -> Ticket | None:
        """None where no such constraint is defined."""
        return self._tickets.get(key)

    def longest(self, key: int) -> int | None:
        """Tokens that an output can have at most; None where no limit is known."""
        return self._longest.get(key)

    def wait(self, stream: Stream, ticket: Ticket) -> None:
        self._waiting[stream] = ticket

    def forget(self, stream: Stream) -> None:
        """The stream waits no more. Idempotent."""
        self._waiting.pop(stream, None)

    @property
    def has_ready(self) -> bool:
        """Whether `take_ready` would give something."""
        return any(ticket.ready for ticket in self._waiting.values())

    def take_ready(self) -> list[tuple[Stream, Ticket]]:
        """The streams that need not wait any longer, in the order in which they came."""
        ready = [(stream, ticket) for stream, ticket in self._waiting.items() if ticket.ready]
        for stream, _ in ready:
            del self._waiting[stream]
        return ready
