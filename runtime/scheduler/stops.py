"""Stop strings, matched on bytes so that the result does not depend on where tokens are cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["StopFound", "StopMatcher"]


class StopFound(NamedTuple):
    """`cut`: how many bytes of the output come before the stop string."""

    stop: bytes
    cut: int


@dataclass(slots=True)
class StopMatcher:
    """Follows one output and finds the first stop string in it.

    The first is the one that ends earliest; of those that end at the same byte, the longest. Fed
    byte by byte or all at once, the result is the same.
    """

    stops: tuple[bytes, ...]
    text: bytearray = field(default_factory=bytearray)

    def push(self, piece: bytes) -> StopFound | None:
        """Appends a token's bytes. After a stop was found nothing may be pushed any more."""
        searched = len(self.text)
        self.text += piece
        best: tuple[int, int] | None = None
        found = b""
        for stop in self.stops:
            start = self.text.find(stop, max(0, searched - len(stop) + 1))
            if start >= 0 and (best is None or (start + len(stop), start) < best):
                best, found = (start + len(stop), start), stop
        return None if best is None else StopFound(found, best[1])

    @property
    def safe_length(self) -> int:
        """Bytes that no later stop string can take back."""
        held = 0
        for stop in self.stops:
            for length in range(min(len(stop) - 1, len(self.text)), held, -1):
                if self.text.endswith(stop[:length]):
                    held = length
                    break
        return len(self.text) - held
