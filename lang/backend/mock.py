"""`Mock`: runs programs without a model, for tests of programs and for learning the language.

It interprets every node the language can record, at once and in the order of arrival, inside the
caller's thread. Every message goes through the real codec first, so what runs here is well formed
on the wire. Roles read as ChatML. A token is a run of white space with the word behind it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from furcate.errors import EngineLost, UsageError
from furcate.protocol.codec import decode_requests, encode
from furcate.protocol.message import (
    PROTOCOL_VERSION,
    Cancel,
    Constraints,
    Event,
    Finished,
    Graph,
    Release,
    Request,
    Segments,
    Usage,
    Welcome,
)

from .mock_program import MockCall, MockProgram, Reply
from .session import Session

if TYPE_CHECKING:
    from furcate.protocol.constraint import Constraint

    from .base import Deliver, Lost

__all__ = ["Mock", "MockCall", "MockChannel"]

Replies = str | Sequence[str] | Callable[[MockCall], str | int]


class Mock(Session):
    """A backend whose answers the caller writes.

    `replies` is one text for every generation, a list of texts in order, or a function of a
    MockCall. A function that raises fails that node. A select takes the choice that the function
    names (by index or text), and the first one otherwise. Constraints are not enforced: the reply
    is taken as it is. `max_tokens` cuts after that many words, stop strings cut as usual.
    """

    def __init__(self, replies: Replies = "") -> None:
        super().__init__(MockChannel(replies))


class MockChannel:
    """A Channel; `num_bytes_sent` counts what a wire would have carried, `requests` keeps it."""

    def __init__(self, replies: Replies = "") -> None:
        self.num_bytes_sent = 0
        self.requests: list[Request] = []
        self._reply = _reply(replies)
        self._segments: list[str] = []
        self._constraints: list[Constraint] = []
        self._programs: dict[int, MockProgram] = {}
        self._running = threading.RLock()
        self._closed = False

    def open(self, deliver: Deliver, lost: Lost) -> Welcome:
        self._deliver = deliver
        return Welcome(PROTOCOL_VERSION, "mock", "mock", 2**20)

    def send(self, requests: Sequence[Request]) -> None:
        if self._closed:
            raise EngineLost("the mock is closed")
        frame = encode(requests)
        with self._running:
            self.num_bytes_sent += len(frame)
            for request in decode_requests(frame):
                self.requests.append(request)
                events = self._run(request)
                if events:
                    self._deliver(events)

    def close(self) -> None:
        self._closed = True

    def _run(self, request: Request) -> list[Event]:
        match request:
            case Segments(_, texts):
                self._segments.extend(texts)
            case Constraints(_, constraints):
                self._constraints.extend(constraints)
            case Cancel(number, _):
                program = self._programs.pop(number, None)
                if program is not None and not program.finished:
                    return [Finished(number, Usage(), "cancelled", "the program was cancelled")]
            case Release(numbers):
                for number in numbers:
                    self._programs.pop(number, None)
            case Graph():
                return self._append(request)
            case _:
                pass
        return []

    def _append(self, graph: Graph) -> list[Event]:
        program = self._programs.get(graph.program)
        if program is None:
            if graph.epoch > 0:
                return []  # cancelled before
            program = MockProgram(graph, self._reply, self._segments, self._constraints)
            self._programs[graph.program] = program
        return program.append(graph)


def _reply(replies: Replies) -> Reply:
    """One function for the three forms."""
    if isinstance(replies, str):
        text = replies
        return lambda call: 0 if call.choices is not None else text
    if callable(replies):
        return replies
    left = list(replies) if isinstance(replies, Sequence) else [replies]
    if not all(isinstance(text, str) for text in left):
        raise UsageError(
            f"the replies of a Mock are a string, a list of strings or a function of a MockCall, "
            f"got {replies!r}"
        )

    def next_reply(call: MockCall) -> str | int:
        if call.choices is not None:
            return 0
        if not left:
            raise LookupError(f"the mock's {len(replies)} replies are used up")
        return left.pop(0)

    return next_reply
