"""One client's connection, seen from the server, over whichever links carry it.

Sends as much as the client confirms and holds back the rest. Knows no socket: `Carrier` has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from furcate.errors import WireError
from furcate.protocol.codec import MAX_FRAME_BYTES, decode_requests, encode
from furcate.protocol.envelope import (
    Ack,
    Message,
    Open,
    Opened,
    Refusal,
    decode_header,
    encode_header,
)
from furcate.protocol.numbering import Numbering

from .held import Held

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.message import Event, Request

__all__ = ["WINDOW_BYTES", "Carrier", "Client"]

WINDOW_BYTES = 2**20  # that may be under way and not confirmed
FRAME_BYTES = 128 * 2**10  # of what was held, in one message


class Carrier(Protocol):
    """What carries a client's messages."""

    def carry(self, link: bytes, frames: list[bytes]) -> None:
        """Never waits. That a link is gone is told later."""
        ...

    def overflowed(self, client: Client) -> None:
        """The client does not read; called anew for every event that is too much."""
        ...

    def refused(self, client: Client) -> None:
        """The server has ended the connection."""
        ...


class Client:
    """`link` carries it at the moment; None while there is none. `max_held_bytes` may wait for it
    beside the window."""

    def __init__(self, name: bytes, carrier: Carrier, *, keeps: bool, max_held_bytes: int) -> None:
        self.name = name
        self.link: bytes | None = None
        self.is_over = False
        self.keeps = keeps
        self.was_cut = False  # what was held has been dropped, and nothing confirmed since
        self._carrier = carrier
        self._numbering = Numbering(keeps)
        self._held = Held()
        self._max_held_bytes = max_held_bytes

    def __repr__(self) -> str:
        return f"client {self.name[:4].hex()}"

    @property
    def num_received(self) -> int:
        return self._numbering.received

    @property
    def num_held_bytes(self) -> int:
        return self._held.num_bytes

    def send(self, events: Sequence[Event]) -> None:
        """One message, now or when the client has read what came before."""
        if self.is_over:
            return
        if self._held or self._numbering.num_bytes >= WINDOW_BYTES:
            self._held.add(events)
            if self._held.num_bytes > self._max_held_bytes:
                self._carrier.overflowed(self)
        else:
            self._put(events)
            self._pump()

    def refuse(self, code: str, message: str) -> None:
        """The server's last word; what was held goes nowhere. Callable twice."""
        if self.is_over:
            return
        self.is_over = True
        self._held = Held()
        if self.link is not None:
            self._carrier.carry(self.link, [encode_header(Refusal(code, message))])
        self._carrier.refused(self)

    def drop_held(self) -> set[int]:
        """Forgets what is held for programs; which those were."""
        self.was_cut = True
        return self._held.drop_programs()

    # Links ---------------------------------------------------------------------------------------

    def attach(self, link: bytes, opening: Open) -> None:
        """Goes on over this link from where the client says it is."""
        self.link = link
        self._numbering.begin_link(opening.received)
        self._carrier.carry(link, [encode_header(Opened(self._numbering.received))])
        self._pump()

    def detach(self) -> None:
        """The link has ended."""
        self.link = None

    def take(self, frames: Sequence[bytes]) -> list[Request]:
        """The requests of what has arrived on the link; none where they came before. Raises
        WireError."""
        header = decode_header(frames[0])
        requests: list[Request] = []
        match header:
            case Message() if len(frames) == 2:
                if self._numbering.take(header, len(frames[1])):
                    requests = decode_requests(frames[1])
            case Ack() if len(frames) == 1:
                self._numbering.confirm(header.received)
            case _:
                raise WireError(
                    f"{type(header).__name__} with {len(frames)} frames on an open link"
                )
        self._send_held()
        confirmation = self._numbering.due_confirmation()
        if confirmation is not None and self.link is not None:
            self._carrier.carry(self.link, [encode_header(confirmation)])
        return requests

    def _send_held(self) -> None:
        while self._held and self._numbering.num_bytes < WINDOW_BYTES:
            self.was_cut = False
            self._put(self._held.take(FRAME_BYTES))
        self._pump()

    def _put(self, events: Sequence[Event]) -> None:
        payload = encode(events)
        if len(payload) > MAX_FRAME_BYTES and len(events) > 1:
            half = len(events) // 2
            self._put(events[:half])
            self._put(events[half:])
        else:
            self._numbering.put(payload)

    def _pump(self) -> None:
        while self.link is not None and (frames := self._numbering.next_due()) is not None:
            self._carrier.carry(self.link, frames)
