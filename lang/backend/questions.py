"""Questions to the other side that are no program's, and who waits for their answers."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from furcate.errors import FurcateError
    from furcate.protocol.message import Data, Info

__all__ = ["Facts", "Questions"]

Facts = dict[str, "Data"]


class Questions:
    """Of one connection; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, Future[Facts]] = {}
        self._next = 0

    def new(self) -> tuple[int, Future[Facts]]:
        future: Future[Facts] = Future()
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._open[number] = future
        return number, future

    def answered(self, info: Info) -> None:
        with self._lock:
            future = self._open.pop(info.number, None)
        if future is not None:
            future.set_result(info.facts)

    def lose(self, error: FurcateError) -> None:
        """No answer will come any more."""
        with self._lock:
            left = list(self._open.values())
            self._open.clear()
        for future in left:
            future.set_exception(error)
