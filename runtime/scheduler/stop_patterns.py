"""Stop patterns, searched while an output grows: one pass, each character once.

The patterns become one position automaton (Glushkov 1961): a position for each character class
they spell out, a set of positions as the bits of an integer, and no state that matches without
reading. A step costs a few operations on integers of `MAX_POSITIONS` bits, whatever the output, so
the time is linear in it. Bytes that are no UTF-8 match nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from furcate.protocol.pattern import Alternatives, CharClass, Repeat, Row, parse_pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

    from furcate.protocol.pattern import Pattern

__all__ = ["MAX_MATCH_CHARS", "PatternFollower", "StopAutomaton", "automaton_of"]

MAX_MATCH_CHARS = 1024
"""A longer text is no match: this bounds what a stream holds back."""

_MAX_REMEMBERED = 8192  # steps of an automaton, and characters with the positions that read them


class _Part(NamedTuple):
    """Of the automaton under construction: which positions can begin and end it."""

    is_nullable: bool
    first: int
    last: int


_EMPTY = _Part(True, 0, 0)


@lru_cache(maxsize=256)
def automaton_of(patterns: tuple[str, ...]) -> StopAutomaton:
    """The automaton for patterns that `check_patterns` lets pass."""
    return StopAutomaton(Alternatives(tuple(parse_pattern(pattern) for pattern in patterns)))


class StopAutomaton:
    """Immutable but for what it remembers; for any number of outputs.

    Most positions are followed by the next one, which is a shift; what else follows, and is
    followed, is kept by position in `_after` and `_before`.
    """

    def __init__(self, tree: Pattern) -> None:
        self._classes: list[CharClass] = []
        self._follow: list[int] = []
        _, self.first, self.last = self._build(tree)
        self._shifts = 0
        self._after: dict[int, int] = {}
        self._before: dict[int, int] = {}
        for place, follow in enumerate(self._follow):
            bit = 1 << place
            self._shifts |= bit if follow & (bit << 1) else 0
            rest = follow & ~(bit << 1)
            if rest:
                self._after[bit] = rest
                for other in _bits(rest):
                    self._before[other] = self._before.get(other, 0) | bit
        self._has_after, self._has_before = sum(self._after), sum(self._before)
        self._readers: dict[str, int] = {}
        self._steps: dict[tuple[int, str], int] = {}

    def step(self, active: int, char: str) -> int:
        """The positions that have read `char`, after `active`, or beginning with it."""
        known = self._steps.get((active, char))
        if known is not None:
            return known
        following = (active & self._shifts) << 1
        for bit in _bits(active & self._has_after):
            following |= self._after[bit]
        result = (following | self.first) & self.readers(char)
        if len(self._steps) >= _MAX_REMEMBERED:
            self._steps.clear()
        self._steps[active, char] = result
        return result

    def step_back(self, active: int) -> int:
        """The positions that `active` can come after."""
        before = (active >> 1) & self._shifts
        for bit in _bits(active & self._has_before):
            before |= self._before[bit]
        return before

    def readers(self, char: str) -> int:
        """The positions that can read the character."""
        known = self._readers.get(char)
        if known is None:
            if len(self._readers) >= _MAX_REMEMBERED:
                self._readers.clear()
            known = sum(1 << place for place, each in enumerate(self._classes) if each.has(char))
            self._readers[char] = known
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
                whole = _EMPTY
                for part in parts:
                    whole = self._chain(whole, self._build(part))
                return whole
            case Alternatives(parts):
                built = [self._build(part) for part in parts]
                return _Part(
                    any(part.is_nullable for part in built),
                    _union(part.first for part in built),
                    _union(part.last for part in built),
                )
            case Repeat(part, low, high):
                return self._repeat(part, low, high)

    def _repeat(self, part: Pattern, low: int, high: int | None) -> _Part:
        """`low` copies; then, nested in each other, those that may be left out, or a loop."""
        copies = [self._build(part) for _ in range(max(low, high or 0, 1 if high is None else 0))]
        if high is None:
            self._link(copies[-1].last, copies[-1].first)
        tail = _EMPTY
        for copy in reversed(copies[low:]):
            tail = self._chain(copy, tail)._replace(is_nullable=True)
        for copy in reversed(copies[:low]):
            tail = self._chain(copy, tail)
        return tail

    def _chain(self, one: _Part, other: _Part) -> _Part:
        self._link(one.last, other.first)
        return _Part(
            one.is_nullable and other.is_nullable,
            one.first | (other.first if one.is_nullable else 0),
            other.last | (one.last if other.is_nullable else 0),
        )

    def _link(self, last: int, first: int) -> None:
        for bit in _bits(last):
            self._follow[bit.bit_length() - 1] |= first


class _Char(NamedTuple):
    """`text` is empty for a byte that is no part of a character."""

    text: str
    start: int  # its first byte in the output
    end: int


@dataclass(slots=True)
class PatternFollower:
    """Follows one output. `safe` are the bytes that no later match can take back: held back is what
    has come since no match was open, and never more than `MAX_MATCH_CHARS` characters."""

    automaton: StopAutomaton
    _active: int = 0
    _since: int = 0  # up to there no match is open
    _pending: bytes = b""  # the beginning of a character
    _end: int = 0
    _chars: deque[_Char] = field(default_factory=lambda: deque(maxlen=MAX_MATCH_CHARS))

    def push(self, piece: bytes) -> tuple[int, int] | None:
        """Reads on; end and start of the first match to end in this piece, the longest of those
        that end there."""
        found = None
        automaton = self.automaton
        for char in self._characters(piece):
            self._chars.append(char)
            self._active = automaton.step(self._active, char.text) if char.text else 0
            if not self._active:
                self._since = char.end
            elif found is None and self._active & automaton.last:
                start = self._start()
                found = None if start is None else (char.end, start)
        return found

    @property
    def safe(self) -> int:
        is_full = len(self._chars) == MAX_MATCH_CHARS
        return max(self._since, self._chars[0].end) if is_full else self._since

    def _start(self) -> int | None:
        """Where the longest match that ends here begins; None where it is too long for one."""
        automaton, start = self.automaton, None
        active = automaton.last
        for char in reversed(self._chars):
            active &= automaton.readers(char.text) if char.text else 0
            if not active:
                break
            if active & automaton.first:
                start = char.start
            active = automaton.step_back(active)
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


def _num_bytes(lead: int) -> int:
    """Of the character that begins with this byte; 0: none does."""
    if lead < 0x80:
        return 1
    return (
        2 if 0xC2 <= lead < 0xE0 else 3 if 0xE0 <= lead < 0xF0 else 4 if 0xF0 <= lead < 0xF5 else 0
    )


def _bits(value: int) -> Iterator[int]:
    while value:
        bit = value & -value
        yield bit
        value ^= bit


def _union(values: Iterator[int]) -> int:
    result = 0
    for value in values:
        result |= value
    return result
