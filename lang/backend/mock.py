"""`Mock`: runs programs without a model, for tests of programs and for learning the language.

The runtime behind it is the real one but for the engine: everything happens at once, in the order
of recording, inside the caller's thread. Every message goes through the real codec first, so what
runs here is well formed on the wire. Roles read as ChatML. A token is a run of white space with the
word behind it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.errors import EngineLost, UsageError
from furcate.protocol.codec import decode_requests, encode

from .handshake import Handshake
from .session import Session

if TYPE_CHECKING:
    from furcate.protocol.constraint import Constraint
    from furcate.protocol.message import Event, Request, Welcome
    from furcate.protocol.sampling import Sampling

    from .base import Deliver, Lost

__all__ = ["Mock", "MockCall", "MockChannel"]


@dataclass(frozen=True, slots=True)
class MockCall:
    """What a generation or a select would be made from. `choices` is None for a generation;
    `sample` counts the texts of an `n` above 1; `seed` is the program's."""

    text: str
    sampling: Sampling
    constraint: Constraint | None = None
    choices: tuple[str, ...] | None = None
    sample: int = 0
    seed: int = 0


Reply = Callable[[MockCall], str | int]
Replies = str | Sequence[str] | Reply


class Mock(Session):
    """A backend whose answers the caller writes.

    `replies` is one text for every generation, a list of texts in order, or a function of a
    MockCall. A function that raises fails that node. A select takes the choice that the function
    names (by index or text), and the first one otherwise. Constraints are not enforced: the reply
    is taken as it is. `max_tokens` cuts after that many words, stop strings cut as usual.
    """

    kind = "mock"

    def __init__(self, replies: Replies = "") -> None:
        super().__init__(MockChannel(replies))


class MockChannel:
    """A Channel; `num_bytes_sent` counts what a wire would have carried, `requests` keeps the last
    of it."""

    def __init__(self, replies: Replies = "") -> None:
        # As for an engine in the process, the runtime loads when it is wanted.
        from furcate.runtime import launch

        self.num_bytes_sent = 0
        self.requests: deque[Request] = deque(maxlen=1000)
        reply = _reply(replies)
        self._runtime = launch.mock_runtime(lambda asked: reply(MockCall(*asked)), self._receive)
        self._running = threading.RLock()
        self._closed = False

    def open(self, deliver: Deliver, lost: Lost) -> Welcome:
        self._handshake = Handshake("the mock", deliver)
        self._runtime.send([Handshake.hello()])
        return self._handshake.answer.result()

    def send(self, requests: Sequence[Request]) -> None:
        if self._closed:
            raise EngineLost("the mock is closed")
        frame = encode(requests)
        with self._running:
            self.num_bytes_sent += len(frame)
            arrived = decode_requests(frame)
            self.requests += arrived
            self._runtime.send(arrived)

    def close(self) -> None:
        self._closed = True

    def _receive(self, events: Sequence[Event]) -> None:
        error = self._handshake.receive(events)
        if error is not None:
            raise error


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
