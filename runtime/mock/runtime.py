"""The real front over the mock's engine, all in the thread of whoever sends.

Knows requests and events, nothing of the sessions that send and get them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from furcate.protocol.batch import unpack
from furcate.protocol.message import Batch, Constraints, Graph, Release
from furcate.runtime.clock import MonotonicClock
from furcate.runtime.graph import Front

from .engine import MockEngine
from .sites import Sites
from .words import WordTokenizer, chat_template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from furcate.protocol.message import Event, Request
    from furcate.runtime.clock import Clock

    from .asked import Answer

__all__ = ["MockRuntime"]

CLIENT = 0  # the only one


class MockRuntime:
    """One caller at a time; an answer may send again, and so may `deliver`."""

    def __init__(
        self,
        answer: Answer,
        deliver: Callable[[Sequence[Event]], None],
        clock: Clock | None = None,
    ) -> None:
        codec = WordTokenizer()
        self._sites = Sites()
        self._engine = MockEngine(codec, self._sites, answer)
        self._clock = clock or MonotonicClock()
        ready = self._engine.ready()
        self._front = Front(
            codec, chat_template(), ready, started_at=self._clock.now(), hints=False
        )
        self._front.connect(CLIENT)
        self._deliver = deliver
        self._undelivered: deque[list[Event]] = deque()
        self._is_delivering = False

    def send(self, requests: Sequence[Request]) -> None:
        """Everything that follows from the requests is done and delivered when it returns."""
        waiting = self._engine.set_aside()
        try:
            now = self._clock.now()
            self._front.tick(now)
            marked = [each for request in requests for each in self._marked(request)]
            self._front.handle(CLIENT, marked, now)
            self._pump()
            while self._engine.has_work:
                self._front.handle_engine(self._engine.step(), now)
                self._pump()
        finally:
            self._engine.put_back(waiting)

    def _marked(self, request: Request) -> Iterable[Request]:
        """What of it the front is to see, and how: see Sites."""
        match request:
            case Graph():
                return (self._sites.mark(request),)
            case Batch():
                return map(self._sites.mark, unpack(request))
            case Constraints(constraints=constraints):
                self._sites.constraints += constraints
                return ()
            case Release(programs=programs):
                self._sites.forget(programs)
            case _:
                pass
        return (request,)

    def _pump(self) -> None:
        """Brings engine and client what the front has to say."""
        outbox = self._front.drain()
        self._engine.handle(outbox.to_engine)
        if events := outbox.to_clients.get(CLIENT):
            self._undelivered.append(events)
        if self._is_delivering:
            return  # whoever delivers goes on with these: events come in order
        self._is_delivering = True
        try:
            while self._undelivered:
                self._deliver(self._undelivered.popleft())
        finally:
            self._is_delivering = False
