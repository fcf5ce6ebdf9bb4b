"""The first answer on a connection: a Welcome, or the reason why not. Knows no transport."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING

from furcate.errors import ConnectionFailed, from_wire
from furcate.protocol.message import PROTOCOL_VERSION, Hello, Refused, Welcome
from furcate.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.errors import FurcateError
    from furcate.protocol.message import Event

    from .base import Deliver

__all__ = ["Handshake"]


class Handshake:
    """Stands between a connection and its user until the first answer is there."""

    def __init__(self, where: str, deliver: Deliver) -> None:
        self.answer: Future[Welcome] = Future()
        self._where = where
        self._deliver = deliver

    @staticmethod
    def hello() -> Hello:
        return Hello(PROTOCOL_VERSION, f"furcate {__version__}")

    def receive(self, events: Sequence[Event]) -> FurcateError | None:
        """Passes events on; the error with which the other side has ended the connection."""
        if not events:
            return None
        if not self.answer.done():
            return self._begin(events)
        last = events[-1]
        if isinstance(last, Refused):
            self._pass_on(events[:-1])
            return from_wire(last.code, f"{self._where} refused to go on: {last.message}")
        self._pass_on(events)
        return None

    def fail(self, error: FurcateError) -> bool:
        """Whether someone still waited for the answer, and now has the error."""
        if self.answer.done():
            return False
        self.answer.set_exception(error)
        return True

    def _begin(self, events: Sequence[Event]) -> FurcateError | None:
        first = events[0]
        if isinstance(first, Welcome):
            self.answer.set_result(first)
            self._pass_on(events[1:])
            return None
        reason = first.message if isinstance(first, Refused) else f"it answered {first!r:.200}"
        return ConnectionFailed(f"{self._where} refused the connection: {reason}")

    def _pass_on(self, events: Sequence[Event]) -> None:
        if events:
            self._deliver(events)
