"""Stop patterns: the regular expressions that may end an output, from text to tree.

Says which expressions there are and what each character class has in it; how an output is searched
with them is the scheduler's matter. An expression describes the text of the match alone: nothing in
it looks at what stands before or after, or back at what a group has matched, so that a finite
automaton can follow an output character by character. Lazy quantifiers are read and mean the same
as greedy ones, because an output ends with the first match to end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from furcate.errors import ConstraintError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "MAX_PATTERNS",
    "MAX_PATTERN_CHARS",
    "MAX_POSITIONS",
    "Alternatives",
    "CharClass",
    "Pattern",
    "Repeat",
    "Row",
    "check_patterns",
    "parse_pattern",
]

MAX_PATTERNS = 32
MAX_PATTERN_CHARS = 256
MAX_POSITIONS = 1024  # characters that all patterns together spell out, repetitions included
_MAX_DEPTH = 24

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a", "0": "\0"}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
_PLACES = {
    "^": "the beginning of the text",
    "$": "the end of the text",
    r"\A": "the beginning of the text",
    r"\Z": "the end of the text",
    r"\z": "the end of the text",
    r"\b": "what stands around the match",
    r"\B": "what stands around the match",
}


@dataclass(frozen=True, slots=True)
class CharClass:
    """One character: in one of `ranges`, or of one of the kinds d, w, s (upper case: not of it).
    `folds`: whatever its case."""

    ranges: tuple[tuple[str, str], ...] = ()
    kinds: str = ""
    negated: bool = False
    folds: bool = False

    def has(self, char: str) -> bool:
        spellings = {char, char.lower(), char.upper()} if self.folds else {char}
        return any(self._lists(spelling) for spelling in spellings) is not self.negated

    def _lists(self, char: str) -> bool:
        if any(low <= char <= high for low, high in self.ranges):
            return True
        return any(_is_of(kind, char) for kind in self.kinds)


@dataclass(frozen=True, slots=True)
class Row:
    """Parts one after the other; none: the empty text."""

    parts: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class Alternatives:
    parts: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`high` None: as often as it comes."""

    part: Pattern
    low: int
    high: int | None


Pattern = CharClass | Row | Alternatives | Repeat


def check_patterns(patterns: Iterable[str]) -> None:
    """Raises ConstraintError for the first that cannot be used, naming it and the reason."""
    given = tuple(patterns)
    if len(given) > MAX_PATTERNS:
        raise ConstraintError(f"stop_regex may hold {MAX_PATTERNS} patterns, got {len(given)}")
    num_positions = sum(_size(parse_pattern(pattern)) for pattern in given)
    if num_positions > MAX_POSITIONS:
        raise ConstraintError(
            f"stop_regex {list(given)!r:.200} spells out {num_positions} characters, repetitions "
            f"counted; {MAX_POSITIONS} are allowed"
        )


@lru_cache(maxsize=512)
def parse_pattern(pattern: str) -> Pattern:
    """Raises ConstraintError where it is no regular expression, or one that cannot stop an
    output."""
    if not 1 <= len(pattern) <= MAX_PATTERN_CHARS:
        raise ConstraintError(
            f"a stop_regex must have 1 to {MAX_PATTERN_CHARS} characters, got {pattern[:40]!r}"
        )
    try:
        tree = _Parser(pattern).parse()
    except _Unusable as error:
        raise ConstraintError(f"stop_regex {pattern!r} cannot be used: {error}") from None
    if _matches_nothing_at_all(tree):
        raise ConstraintError(
            f"stop_regex {pattern!r} matches the empty text, so it would end every output "
            f"before its first character: make it match at least one"
        )
    return tree


class _Unusable(Exception):
    """The reason, as it goes on after the pattern's name."""


def _is_of(kind: str, char: str) -> bool:
    match kind.lower():
        case "d":
            found = char.isdecimal()
        case "w":
            found = char.isalnum() or char == "_"
        case _:
            found = char.isspace()
    return found is not kind.isupper()


def _size(tree: Pattern) -> int:
    match tree:
        case CharClass():
            return 1
        case Repeat(part, low, high):
            return _size(part) * max(low, high or 0, 1)
        case Row(parts) | Alternatives(parts):
            return sum(map(_size, parts))


def _matches_nothing_at_all(tree: Pattern) -> bool:
    match tree:
        case CharClass():
            return False
        case Row(parts):
            return all(map(_matches_nothing_at_all, parts))
        case Alternatives(parts):
            return any(map(_matches_nothing_at_all, parts))
        case Repeat(part, low, _):
            return low == 0 or _matches_nothing_at_all(part)


class _Parser:
    """Of one pattern, from left to right."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._depth = 0
        self._folds = False
        self._dot_is_all = False

    def parse(self) -> Pattern:
        self._flags()
        tree = self._alternatives()
        if self._at < len(self._text):
            raise _Unusable(f"the ')' at {self._at} closes nothing")
        return tree

    # Reading -------------------------------------------------------------------------------------

    def _peek(self, length: int = 1) -> str:
        return self._text[self._at : self._at + length]

    def _take(self, what: str = "a character") -> str:
        if self._at >= len(self._text):
            raise _Unusable(f"it ends where {what} must follow")
        self._at += 1
        return self._text[self._at - 1]

    def _skip(self, expected: str) -> bool:
        if not self._text.startswith(expected, self._at):
            return False
        self._at += len(expected)
        return True

    def _number(self) -> int | None:
        begin = self._at
        while self._peek() and self._peek() in "0123456789":
            self._at += 1
        return int(self._text[begin : self._at]) if self._at > begin else None

    # Structure -----------------------------------------------------------------------------------

    def _flags(self) -> None:
        """`(?i)`, `(?s)` or both at the very beginning."""
        end = self._text.find(")")
        if not self._text.startswith("(?") or end < 3 or not self._text[2:end].isalpha():
            return
        for flag in self._text[2:end]:
            if flag not in "is":
                raise _Unusable(f"there is no flag {flag!r} here, but 'i' and 's'")
        self._folds, self._dot_is_all = "i" in self._text[2:end], "s" in self._text[2:end]
        self._at = end + 1

    def _alternatives(self) -> Pattern:
        parts = [self._row()]
        while self._skip("|"):
            parts.append(self._row())
        return parts[0] if len(parts) == 1 else Alternatives(tuple(parts))

    def _row(self) -> Pattern:
        parts: list[Pattern] = []
        while self._peek() and self._peek() not in "|)":
            parts.append(self._repeated(self._atom()))
        return parts[0] if len(parts) == 1 else Row(tuple(parts))

    def _repeated(self, part: Pattern) -> Pattern:
        bounds = self._bounds()
        if bounds is None:
            return part
        if self._skip("+"):
            raise _Unusable("a possessive quantifier has no meaning where nothing backtracks")
        self._skip("?")
        begin = self._at
        if self._bounds() is not None:
            raise _Unusable(f"there is nothing to repeat at {begin}")
        return Repeat(part, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in {"*": (0, None), "+": (1, None), "?": (0, 1)}.items():
            if self._skip(sign):
                return bounds
        begin = self._at
        if self._skip("{"):
            low, has_comma = self._number(), self._skip(",")
            high = self._number() if has_comma else low
            if self._skip("}") and (low is not None or high is not None):
                if high is not None and high < (low or 0):
                    raise _Unusable(f"{{{low},{high}}} has its bounds the wrong way round")
                return low or 0, high
        self._at = begin  # a brace that is none
        return None

    def _atom(self) -> Pattern:
        begin, char = self._at, self._take()
        if char == "(":
            return self._group()
        if char == "[":
            return self._set()
        if char == ".":
            return CharClass(() if self._dot_is_all else (("\n", "\n"),), negated=True)
        if char == "\\":
            return self._class(*self._escape())
        if char in _PLACES:
            raise _Unusable(f"{char!r} at {begin} looks at {_PLACES[char]}, not at the match")
        if char in "*+?":
            raise _Unusable(f"there is nothing to repeat at {begin}")
        return self._class(((char, char),))

    def _group(self) -> Pattern:
        begin = self._at - 1
        if self._skip("?"):
            self._group_kind(begin)
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _Unusable(f"its groups are nested more than {_MAX_DEPTH} deep")
        tree = self._alternatives()
        self._depth -= 1
        if not self._skip(")"):
            raise _Unusable(f"the '(' at {begin} is never closed")
        return tree

    def _group_kind(self, begin: int) -> None:
        if self._skip(":"):
            return
        for sign in ("=", "!", "<=", "<!"):
            if self._skip(sign):
                raise _Unusable(f"the group at {begin} looks around, which no automaton can")
        if self._skip("P<") or self._skip("<"):
            end = self._text.find(">", self._at)
            if end > self._at and self._text[self._at : end].isidentifier():
                self._at = end + 1
                return
        raise _Unusable(f"the kind of the group at {begin} is unknown: use (...) or (?:...)")

    # Characters ----------------------------------------------------------------------------------

    def _class(
        self, ranges: tuple[tuple[str, str], ...], kinds: str = "", negated: bool = False
    ) -> CharClass:
        return CharClass(ranges, kinds, negated, self._folds)

    def _escape(self) -> tuple[tuple[tuple[str, str], ...], str]:
        """After a backslash: ranges and kinds."""
        begin, char = self._at - 1, self._take("an escape")
        if char in "dwsDWS":
            return (), char
        if "\\" + char in _PLACES:
            around = _PLACES["\\" + char]
            raise _Unusable(f"'\\{char}' at {begin} looks at {around}, not at the match")
        if char in _HEX_DIGITS:
            char = self._by_number(begin, _HEX_DIGITS[char])
        elif char in "123456789":
            raise _Unusable(f"'\\{char}' at {begin} looks back at a group, which no automaton can")
        elif char in _ESCAPES:
            char = _ESCAPES[char]
        elif char.isascii() and char.isalnum():
            raise _Unusable(f"'\\{char}' at {begin} is no escape that is known here")
        return ((char, char),), ""

    def _by_number(self, begin: int, num_digits: int) -> str:
        digits = self._peek(num_digits)
        self._at += num_digits
        try:
            if len(digits) < num_digits or not digits.isalnum():
                raise ValueError(digits)
            return chr(int(digits, 16))
        except (ValueError, OverflowError):
            raise _Unusable(f"the number at {begin} is no character's") from None

    def _set(self) -> CharClass:
        begin = self._at - 1
        negated = self._skip("^")
        ranges: list[tuple[str, str]] = []
        kinds = ""
        while not (self._at > begin + 1 + negated and self._peek() == "]"):
            found, kind = self._member(begin)
            kinds += kind
            if found and self._peek() == "-" and self._peek(2) not in ("-", "-]"):
                self._at += 1
                last, last_kind = self._member(begin)
                if last_kind or last[0][0] < found[0][0]:
                    raise _Unusable(f"the set at {begin} has a range that is none")
                found = ((found[0][0], last[0][0]),)
            ranges += found
        self._at += 1
        return self._class(tuple(ranges), kinds, negated)

    def _member(self, begin: int) -> tuple[tuple[tuple[str, str], ...], str]:
        if self._at >= len(self._text):
            raise _Unusable(f"the '[' at {begin} is never closed")
        char = self._take()
        if char != "\\":
            return ((char, char),), ""
        if self._peek() == "b":  # within a set it is a character, as in Python
            self._at += 1
            return (("\b", "\b"),), ""
        return self._escape()
