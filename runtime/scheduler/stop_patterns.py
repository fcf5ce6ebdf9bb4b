"""Stop patterns, searched while an output grows: one pass, each character once.

The patterns become one position automaton (Glushkov 1961): a position for each character class
they spell out, a set of positions as the bits of an integer, and no state that matches without
reading. A step costs a few operations on integers of `MAX_POSITIONS` bits, whatever the output, so
the time is linear in it. Where a match begins is found by its mirror image, from the match's end
back. Bytes that are no UTF-8 match nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from operator import or_
from typing import TYPE_CHECKING, NamedTuple

from furcate.protocol.pattern import Alternatives, CharClass, Repeat, Row, parse_pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

    from furcate.protocol.pattern import Pattern

__all__ = ["MAX_MATCH_CHARS", "Automaton", "PatternFollower", "StopAutomata", "automata_of"]

MAX_MATCH_CHARS = 1024
"""A match of so many characters is found wherever it stands, one of more than twice as many
nowhere: this bounds what a stream holds back."""

_MAX_REMEMBERED = 8192  # steps of an automaton, and characters with the positions that read them


class StopAutomata(NamedTuple):
    """For an output from its beginning on, and for a match from its end back."""

    forward: Automaton
    backward: Automaton


@lru_cache(maxsize=256)
def automata_of(patterns: tuple[str, ...]) -> StopAutomata:
    """For patterns that `check_patterns` lets pass."""
    tree = Alternatives(tuple(parse_pattern(pattern) for pattern in patterns))
    return StopAutomata(Automaton(tree), Automaton(_mirrored(tree)))


class _Part(NamedTuple):
    """Of the automaton under construction: which positions can begin and end it."""

    is_nullable: bool
    first: int
    last: int


_EMPTY = _Part(True, 0, 0)


class _Step(NamedTuple):
    """After a character: whether a match ends with it, and the positions that may read the next."""

    is_end: bool
    after: int


class Automaton:
    """Immutable but for what it remembers; for any number of outputs. `first` are the positions
    that may read the first character of a match."""

    def __init__(self, tree: Pattern) -> None:
        self._classes: list[CharClass] = []
        self._follow: list[int] = []
        _, self.first, self._last = self._build(tree)
        self._shifts = self._branches = 0  # positions that the next one follows; that others follow
        for place, follow in enumerate(self._follow):
            bit = 1 << place
            self._shifts |= bit if follow & (bit << 1) else 0
            self._branches |= bit if follow & ~(bit << 1) else 0
        self._num_octets = len(self._classes) // 8 + 1
        self._unions: dict[tuple[int, int], int] = {}
        self._readers: dict[str, int] = {}
        self._steps: dict[tuple[int, str], _Step] = {}

    def step(self, active: int, char: str) -> _Step:
        """Reads the character at the positions that may."""
        known = self._steps.get((active, char))
        if known is not None:
            return known
        reading = active & self._readers_of(char)
        after = (reading & self._shifts) << 1
        branches = reading & self._branches
        if branches:
            for place, octet in enumerate(branches.to_bytes(self._num_octets, "little")):
                if octet:
                    after |= self._union(place, octet)
        if len(self._steps) >= _MAX_REMEMBERED:
            self._steps.clear()
        step = self._steps[active, char] = _Step(bool(reading & self._last), after)
        return step

    def _readers_of(self, char: str) -> int:
        known = self._readers.get(char)
        if known is None:
            if len(self._readers) >= _MAX_REMEMBERED:
                self._readers.clear()
            places = (place for place, each in enumerate(self._classes) if char and each.has(char))
            known = self._readers[char] = sum(1 << place for place in places)
        return known

    def _union(self, place: int, octet: int) -> int:
        """What follows the positions of an octet: that of each is looked up eight at a time."""
        known = self._unions.get((place, octet))
        if known is None:
            known = reduce(or_, (self._follow[place * 8 + bit] for bit in _places(octet)))
            self._unions[place, octet] = known
        return known

    # Construction --------------------------------------------------------------------------------

    def _build(self, tree: Pattern) -> _Part:
        match tree:
            case CharClass():
                bit = 1 << len(self._classes)
                self._classes.append(tree)
                self._follow.append(0)
                return _Part(False, bit, bit)
            case Row(parts):
                return self._chain([self._build(part) for part in parts])
            case Alternatives(parts):
                built = [self._build(part) for part in parts]
                return _Part(
                    any(part.is_nullable for part in built),
                    reduce(or_, (part.first for part in built)),
                    reduce(or_, (part.last for part in built)),
                )
            case Repeat(part, low, high):
                return self._repeat(part, low, high)

    def _repeat(self, part: Pattern, low: int, high: int | None) -> _Part:
        """`low` copies; then, nested in each other, those that may be left out, or a loop."""
        copies = [self._build(part) for _ in range(max(low, 1 if high is None else high))]
        if high is None:
            self._link(copies[-1].last, copies[-1].first)
        nested = _EMPTY
        for copy in reversed(copies[low:]):
            nested = self._joined(copy, nested)._replace(is_nullable=True)
        return self._chain([*copies[:low], nested])

    def _chain(self, parts: list[_Part]) -> _Part:
        """From the last to the first: so each position is linked once, not with all before it."""
        whole = _EMPTY
        for part in reversed(parts):
            whole = self._joined(part, whole)
        return whole

    def _joined(self, one: _Part, other: _Part) -> _Part:
        self._link(one.last, other.first)
        return _Part(
            one.is_nullable and other.is_nullable,
            one.first | (other.first if one.is_nullable else 0),
            other.last | (one.last if other.is_nullable else 0),
        )

    def _link(self, last: int, first: int) -> None:
        if first:
            for place in _places(last):
                self._follow[place] |= first


class _Char(NamedTuple):
    """`text` is empty for a byte that is no part of a character."""

    text: str
    start: int  # its first byte in the output
    end: int


@dataclass(slots=True)
class PatternFollower:
    """Follows one output.

    Matches are looked for from the beginning of the last stretch of `window` characters but one
    on, and from that of the last one on, of which the latter takes the place of the former when
    it is full.
    """

    automata: StopAutomata
    window: int = MAX_MATCH_CHARS
    _open: int = 0  # positions of the matches that may go on
    _young: int = 0  # of those that began in the last stretch
    _floor: int = 0  # bytes before the first of the two stretches
    _stretch: int = 0  # bytes before the last
    _since: int = 0  # bytes up to where no match was open
    _num_chars: int = 0
    _pending: bytes = b""  # the beginning of a character
    _end: int = 0
    _chars: deque[_Char] = field(init=False)

    def __post_init__(self) -> None:
        self._chars = deque(maxlen=2 * self.window)

    @property
    def safe(self) -> int:
        """Bytes that no later match can take back: none is open that began before."""
        return max(self._since, self._floor)

    def push(self, piece: bytes, counts: bool = True) -> tuple[int, int] | None:
        """Reads on; end and start of the first match to end in this piece, the longest of those
        that end there. None of a piece that does not count."""
        found = None
        forward = self.automata.forward
        for char in self._characters(piece):
            self._chars.append(char)
            is_alike = self._young == self._open
            is_end, self._open = forward.step(self._open | forward.first, char.text)
            if is_end and counts and found is None:
                found = (char.end, self._start())
            if is_alike:
                self._young = self._open
            else:
                self._young = forward.step(self._young | forward.first, char.text).after
            self._num_chars += 1
            if self._num_chars % self.window == 0:
                self._open, self._young = self._young, 0
                self._floor, self._stretch = self._stretch, char.end
            if not self._open:
                self._since = char.end
        return found

    def _start(self) -> int:
        """Where the longest match that ends here begins."""
        backward = self.automata.backward
        active, start = backward.first, self._chars[-1].end
        for char in reversed(self._chars):
            if not active or char.start < self._floor:
                break
            is_end, active = backward.step(active, char.text)
            if is_end:
                start = char.start
        return start

    def _characters(self, piece: bytes) -> Iterator[_Char]:
        """The characters that are complete now. Whether bytes are one is decided by those bytes
        alone, so it does not matter how the output was cut into pieces."""
        data, self._pending = self._pending + piece, b""
        at, begin = 0, self._end
        while at < len(data):
            size = _num_bytes(data[at])
            if size > len(data) - at and all(0x80 <= byte < 0xC0 for byte in data[at + 1 :]):
                self._pending = data[at:]
                break
            try:
                text = data[at : at + size].decode() if size else ""
            except UnicodeDecodeError:
                text, size = "", 1
            size = size or 1
            yield _Char(text, begin + at, begin + at + size)
            at += size
        self._end = begin + len(data) - len(self._pending)


def _mirrored(tree: Pattern) -> Pattern:
    """What reads the same texts from their end."""
    match tree:
        case CharClass():
            return tree
        case Row(parts):
            return Row(tuple(_mirrored(part) for part in reversed(parts)))
        case Alternatives(parts):
            return Alternatives(tuple(_mirrored(part) for part in parts))
        case Repeat(part, low, high):
            return Repeat(_mirrored(part), low, high)


def _num_bytes(lead: int) -> int:
    """Of the character that begins with this byte; 0: none does."""
    if lead < 0x80:
        return 1
    return (
        2 if 0xC2 <= lead < 0xE0 else 3 if 0xE0 <= lead < 0xF0 else 4 if 0xF0 <= lead < 0xF5 else 0
    )


def _places(bits: int) -> Iterator[int]:
    """Of the bits that are set."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
