"""What a trace is: who uses which tokens when, and what is said about it beforehand.

Tokens come in segments that are used as a whole or not at all, and two segments never begin alike.
The times do not depend on what is cached, so that all policies see the same events.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from furcate.runtime.cache import NextUse

__all__ = ["Event", "Hint", "Next", "Segment", "Start", "Stop", "Trace", "Turn", "tokens_of"]

FIRST_ID = 1000  # below are the tokens that every segment is made of


class Segment(NamedTuple):
    id: int
    length: int


class Next(NamedTuple):
    """What is known of a stream's next turn; DEAD: there is none."""

    use: NextUse
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A stream has these segments, computes them, and draws one more."""

    start: float
    stop: float
    stream: int
    program: int
    prompt: tuple[Segment, ...]
    output: Segment
    then: Next


@dataclass(frozen=True, slots=True)
class Hint:
    """What became known of a resting stream later."""

    time: float
    stream: int
    then: Next


class Start(NamedTuple):
    time: float
    turn: Turn


class Stop(NamedTuple):
    time: float
    turn: Turn


Event = Start | Stop | Hint


@dataclass(frozen=True, slots=True)
class Trace:
    name: str
    turns: tuple[Turn, ...]
    hints: tuple[Hint, ...]

    def events(self) -> list[Event]:
        """In the order of time; at the same time, what ends goes first."""
        stops: list[Event] = [Stop(turn.stop, turn) for turn in self.turns]
        starts: list[Event] = [Start(turn.start, turn) for turn in self.turns]
        return sorted([*stops, *self.hints, *starts], key=lambda event: event.time)


def tokens_of(segments: tuple[Segment, ...]) -> array[int]:
    tokens = array("i")
    for segment in segments:
        tokens.append(FIRST_ID + segment.id)
        tokens.extend((segment.id + k) % FIRST_ID for k in range(1, segment.length))
    return tokens
