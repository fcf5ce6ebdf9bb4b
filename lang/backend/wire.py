"""A connection to a server over one link after another.

Numbers what is sent, keeps it until it is confirmed, and takes each message from the other side
once. Where the address allows it, a link that is lost is followed by another. Used on one event
loop; knows neither sockets nor messages.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from furcate.errors import ConnectionFailed, EngineLost, Overloaded, WireError, from_wire
from furcate.protocol.envelope import (
    CONNECTION_ID_BYTES,
    Ack,
    Message,
    Open,
    Opened,
    Refusal,
    decode_header,
    encode_header,
)
from furcate.protocol.numbering import Numbering

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from furcate.errors import FurcateError

__all__ = ["RESUME_S", "End", "Link", "LinkHandler", "Wire", "WireHandler"]

RESUME_S = 30.0  # how long a lost link is looked for another
ANSWER_S = 5.0  # how long a link may take to be answered
FIRST_DELAY_S = 0.05
MAX_DELAY_S = 2.0
MAX_UNCONFIRMED_BYTES = 256 * 2**20
MAX_MISMATCHES = 3  # a server that ends in the middle of a handshake looks the same


@dataclass(frozen=True, slots=True)
class End:
    """Why a link has ended. `denied`: the server does not know the client's key. `mismatched`: the
    two sides did not understand each other, as with wrong keys."""

    text: str
    denied: bool = False
    mismatched: bool = False


class LinkHandler(Protocol):
    def received(self, frames: list[bytes]) -> None: ...

    def ended(self, end: End) -> None:
        """Once, and nothing after it."""
        ...


class Link(Protocol):
    """What a wire needs of a link."""

    def send(self, frames: Sequence[bytes]) -> None:
        """Never waits. What is sent on a link that is lost goes nowhere."""
        ...

    def close(self, linger_ms: int) -> None:
        """The handler hears nothing more. What was sent gets `linger_ms` to leave. Callable
        twice."""
        ...


class WireHandler(Protocol):
    def arrived(self, payload: bytes) -> None: ...

    def broken(self, error: FurcateError) -> None:
        """Once, and nothing after it."""
        ...


class Wire:
    """`where` names the server in errors. `last_end` says why there is no link, where none is."""

    def __init__(
        self,
        where: str,
        make_link: Callable[[LinkHandler], Link],
        loop: asyncio.AbstractEventLoop,
        handler: WireHandler,
        *,
        resumes: bool,
    ) -> None:
        self.last_end: End | None = None
        self.num_bytes_sent = 0
        self.num_bytes_received = 0
        self._where = where
        self._make_link = make_link
        self._loop = loop
        self._handler = handler
        self._resumes = resumes
        self._id = secrets.token_bytes(CONNECTION_ID_BYTES)
        self._numbering = Numbering(keeps=resumes)
        self._link: Link | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_open = False  # the present link was answered
        self._was_open = False  # any
        self._is_over = False
        self._num_mismatches = 0
        self._delay_s = FIRST_DELAY_S
        self._give_up_s: float | None = None

    def start(self) -> None:
        opening = Open(self._id, self._numbering.received, fresh=not self._was_open)
        self._link = self._make_link(self)
        self._timer = self._loop.call_later(ANSWER_S, self._unanswered)
        self._send([encode_header(opening)])

    def send(self, payload: bytes) -> None:
        if self._is_over:
            return
        self._numbering.put(payload)
        if self._numbering.num_bytes > MAX_UNCONFIRMED_BYTES:
            self._break(
                Overloaded(
                    f"{self._numbering.num_bytes} bytes wait for {self._where} to take them, over "
                    f"the limit of {MAX_UNCONFIRMED_BYTES}: send less at a time"
                )
            )
        else:
            self._pump()

    def close(self, linger_ms: int) -> None:
        """Nothing is reported any more. Callable twice."""
        self._is_over = True
        self._stop_timer()
        if self._link is not None:
            self._link.close(linger_ms)
            self._link = None

    # From the link -------------------------------------------------------------------------------

    def received(self, frames: list[bytes]) -> None:
        self.num_bytes_received += sum(map(len, frames))
        try:
            self._take(frames)
        except WireError as error:
            self._break(WireError(f"{self._where} sent no message: {error}"))

    def ended(self, end: End) -> None:
        self.last_end = end
        self._link = None
        self._is_open = False
        self._stop_timer()
        self._num_mismatches += end.mismatched
        if self._was_open and not self._resumes:
            self._break(
                EngineLost(
                    f"{self._where} has ended the connection: run again when `furcate serve` is up"
                )
            )
        elif end.denied or (not self._was_open and self._num_mismatches >= MAX_MISMATCHES):
            self._break(ConnectionFailed(f"{self._where} cannot be used: {end.text}"))
        elif self._give_up_s is not None and self._loop.time() >= self._give_up_s:
            self._break(
                EngineLost(
                    f"the connection to {self._where} was lost and could not be made again within "
                    f"{RESUME_S:g} s: {end.text}"
                )
            )
        else:
            self._try_again()

    # Inside --------------------------------------------------------------------------------------

    def _take(self, frames: list[bytes]) -> None:
        header = decode_header(frames[0])
        if len(frames) != 1 + isinstance(header, Message):
            raise WireError(f"a message of {len(frames)} frames begins with {header!r:.100}")
        match header:
            case Opened():
                self._begin(header)
            case Message():
                if self._numbering.take(header, len(frames[1])):
                    self._handler.arrived(frames[1])
            case Ack() if not self._is_open:
                pass  # the server looks whether anybody is there
            case Ack():
                self._numbering.confirm(header.received)
            case Refusal(code=code, message=message):
                self._break(from_wire(code, f"{self._where} refused to go on: {message}"))
            case Open():
                raise WireError("a server opens no connection")
        if not self._is_over and (confirmation := self._numbering.due_confirmation()) is not None:
            self._send([encode_header(confirmation)])

    def _begin(self, opened: Opened) -> None:
        self._stop_timer()
        self._is_open = self._was_open = True
        self._give_up_s = None
        self._delay_s = FIRST_DELAY_S
        self._num_mismatches = 0
        self._numbering.begin_link(opened.received)
        self._pump()

    def _pump(self) -> None:
        while self._is_open and (frames := self._numbering.next_due()) is not None:
            self._send(frames)

    def _send(self, frames: list[bytes]) -> None:
        if self._link is not None:
            self._link.send(frames)
            self.num_bytes_sent += sum(map(len, frames))

    def _unanswered(self) -> None:
        if self._link is not None:
            self._link.close(0)
        self.ended(End(f"it did not answer within {ANSWER_S:g} s"))

    def _try_again(self) -> None:
        if self._was_open and self._give_up_s is None:
            self._give_up_s = self._loop.time() + RESUME_S
        self._timer = self._loop.call_later(self._delay_s, self.start)
        self._delay_s = min(2 * self._delay_s, MAX_DELAY_S)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _break(self, error: FurcateError) -> None:
        if not self._is_over:
            self.close(0)
            self._handler.broken(error)
