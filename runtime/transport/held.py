"""Events for a client that does not take them now. Deltas of one text become one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.protocol.codec import encode
from furcate.protocol.message import Delta, Failed, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.message import Event

__all__ = ["Held"]

EVENT_BYTES = 64  # of an event, beside its content

Key = tuple[int, int, int]  # program, value, sample


class _Text:
    """Deltas of one text, in the place of the first."""

    __slots__ = ("first", "pieces")

    def __init__(self, first: Delta) -> None:
        self.first = first
        self.pieces = [first.text]

    def event(self) -> Delta:
        first = self.first
        text = "".join(self.pieces)
        return Delta(first.program, first.branch, first.value, first.sample, text)


class Held:
    """In order, but that a Delta joins one of the same text if nothing else about that value came
    between them."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self._events: dict[int, Event | _Text] = {}  # by a number that counts up
        self._sizes: dict[int, int] = {}
        self._texts: dict[Key, int] = {}
        self._values: dict[tuple[int, int], list[Key]] = {}
        self._next = 0

    def __bool__(self) -> bool:
        return bool(self._events)

    def add(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Delta):
                self._add_delta(event)
            else:
                self._close_texts(event)
                self._put(event, EVENT_BYTES + len(encode([event])))

    def take(self, max_bytes: int) -> list[Event]:
        """The first events, at least one of them; forgets them."""
        taken: list[Event] = []
        num_bytes = 0
        for number in list(self._events):
            size = self._sizes[number]
            if taken and num_bytes + size > max_bytes:
                break
            num_bytes += size
            taken.append(self._remove(number))
        return taken

    def drop_programs(self) -> set[int]:
        """Forgets what is about programs, and says which programs those were."""
        programs: set[int] = set()
        for number, held in list(self._events.items()):
            program = getattr(held.first if isinstance(held, _Text) else held, "program", None)
            if program is not None:
                programs.add(program)
                self._remove(number)
        return programs

    def _add_delta(self, delta: Delta) -> None:
        key = (delta.program, delta.value, delta.sample)
        number = self._texts.get(key)
        if number is None:
            self._texts[key] = self._next
            self._values.setdefault(key[:2], []).append(key)
            self._put(_Text(delta), EVENT_BYTES + len(delta.text.encode()))
            return
        text = self._events[number]
        assert isinstance(text, _Text)
        text.pieces.append(delta.text)
        num_bytes = len(delta.text.encode())
        self._sizes[number] += num_bytes
        self.num_bytes += num_bytes

    def _put(self, event: Event | _Text, num_bytes: int) -> None:
        self._events[self._next] = event
        self._sizes[self._next] = num_bytes
        self._next += 1
        self.num_bytes += num_bytes

    def _remove(self, number: int) -> Event:
        held = self._events.pop(number)
        self.num_bytes -= self._sizes.pop(number)
        if not isinstance(held, _Text):
            return held
        self._close_texts(held.first)
        return held.event()

    def _close_texts(self, event: Event) -> None:
        """What comes of that value from now on stands behind this event."""
        if isinstance(event, (Delta, Value, Failed)) and event.value is not None:
            for key in self._values.pop((event.program, event.value), ()):
                self._texts.pop(key, None)
