"""One side's books of a connection: what it has sent and the other has not confirmed, and how far
it has itself received. The same on both sides. Knows no sockets and no clock."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from furcate.errors import WireError

from .envelope import Ack, Message, encode_header

if TYPE_CHECKING:
    from .envelope import Header

__all__ = ["CONFIRM_BYTES", "CONFIRM_MESSAGES", "Numbering"]

# Whoever receives confirms at the latest after so much.
CONFIRM_BYTES = 128 * 2**10
CONFIRM_MESSAGES = 64


class Numbering:
    """`keeps` what is unconfirmed for the next link; else only its size is remembered, and the
    connection ends with its link. `num_bytes` of payloads are not confirmed, sent or not."""

    def __init__(self, keeps: bool) -> None:
        self.received = 0  # the number of the last message taken
        self.num_bytes = 0
        self._keeps = keeps
        self._confirmed = 0
        self._sent: deque[tuple[int, bytes]] = deque()  # on the present link: sizes and payloads
        self._due: deque[bytes] = deque()
        self._owed_bytes = 0
        self._owed_messages = 0

    # What goes out -------------------------------------------------------------------------------

    def put(self, payload: bytes) -> None:
        """The next message."""
        self._due.append(payload)
        self.num_bytes += len(payload)

    def next_due(self) -> list[bytes] | None:
        """The frames of the next message that this link has not carried, which it carries now."""
        if not self._due:
            return None
        payload = self._due.popleft()
        self._sent.append((len(payload), payload if self._keeps else b""))
        self._owed_bytes = self._owed_messages = 0
        return [encode_header(Message(self._num_sent, self.received)), payload]

    def begin_link(self, received: int) -> None:
        """A new link: the other side has so many messages and gets the rest once more."""
        self.confirm(received)
        assert self._keeps or not self._sent, "nothing was kept for another link"
        self._due.extendleft(payload for _, payload in reversed(self._sent))
        self._sent.clear()

    def confirm(self, received: int) -> None:
        """The other side has all messages up to that number."""
        if not self._confirmed <= received <= self._num_sent:
            raise WireError(
                f"message {received} is confirmed; messages {self._confirmed} to {self._num_sent} "
                "can be"
            )
        while self._confirmed < received:
            self.num_bytes -= self._sent.popleft()[0]
            self._confirmed += 1

    @property
    def _num_sent(self) -> int:
        return self._confirmed + len(self._sent)

    # What comes in -------------------------------------------------------------------------------

    def take(self, header: Message, num_bytes: int) -> bool:
        """Whether this message is new. Raises WireError where one before it is missing."""
        self.confirm(header.received)
        if header.number <= self.received:
            return False
        if header.number > self.received + 1:
            raise WireError(f"message {header.number} follows on message {self.received}")
        self.received = header.number
        self._owed_bytes += num_bytes
        self._owed_messages += 1
        return True

    def due_confirmation(self) -> Header | None:
        """What to send where nothing else goes back and enough has arrived."""
        if self._owed_bytes < CONFIRM_BYTES and self._owed_messages < CONFIRM_MESSAGES:
            return None
        self._owed_bytes = self._owed_messages = 0
        return Ack(self.received)
