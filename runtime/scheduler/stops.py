"""What ends an output: stop strings and stop patterns, matched on bytes so that the result does not
depend on where tokens are cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .stop_patterns import PatternFollower, automata_of

__all__ = ["StopFound", "StopMatcher"]


class StopFound(NamedTuple):
    """`stop` is the text that ended the output; `cut`: how many bytes come before it."""

    stop: bytes
    cut: int


@dataclass(slots=True)
class StopMatcher:
    """Follows one output and finds the first stop in it.

    The first is the one that ends earliest; of those that end at the same byte, the longest. Fed
    byte by byte or all at once, the result is the same.
    """

    stops: tuple[bytes, ...]
    patterns: tuple[str, ...] = ()
    text: bytearray = field(default_factory=bytearray)
    _follower: PatternFollower | None = field(init=False)

    def __post_init__(self) -> None:
        self._follower = PatternFollower(automata_of(self.patterns)) if self.patterns else None

    def push(self, piece: bytes, counts: bool = True) -> StopFound | None:
        """Appends a token's bytes. A stop that ends in a piece that does not count is none; after
        one was found nothing may be pushed any more."""
        searched = len(self.text)
        self.text += piece
        best: tuple[int, int] | None = None  # end and start
        for stop in self.stops if counts else ():
            start = self.text.find(stop, max(0, searched - len(stop) + 1))
            if start >= 0 and (best is None or (start + len(stop), start) < best):
                best = (start + len(stop), start)
        if self._follower is not None:
            match = self._follower.push(piece, counts)
            if match is not None and (best is None or match < best):
                best = match
        return None if best is None else StopFound(bytes(self.text[best[1] : best[0]]), best[1])

    @property
    def safe_length(self) -> int:
        """Bytes that no later stop can take back."""
        held = 0
        for stop in self.stops:
            for length in range(min(len(stop) - 1, len(self.text)), held, -1):
                if self.text.endswith(stop[:length]):
                    held = length
                    break
        safe = len(self.text) - held
        return safe if self._follower is None else min(safe, self._follower.safe)
