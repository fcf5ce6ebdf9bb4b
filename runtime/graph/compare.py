"""How values compare: equality, order, truth, and what is in a list.

A text that spells a number counts as that number where the other side is one, because a generation
gives text. Two texts are equal if they are the same; in order, two that both spell numbers stand as
numbers do.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import msgspec

from furcate.errors import UsageError

from .cell import Ready

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.message import Data

__all__ = ["element", "elements_of", "equal", "is_less", "number_of", "truth"]

Plain = object

_INTEGER = re.compile(r"[+-]?[0-9]{1,300}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,300}\.?[0-9]{0,300}|\.[0-9]{1,300})([eE][+-]?[0-9]{1,4})?")
_BOOLS = {"true": True, "false": False}
# What a model or Python writes for nothing and for no.
_FALSE_TEXTS = frozenset(("", "false", "0", "null", "none"))


def number_of(value: Plain) -> int | float | None:
    """The number that the value is or spells; None where it is none."""
    if isinstance(value, (int, float)):
        return value
    if not isinstance(value, str):
        return None
    text = value.strip()
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else None


def equal(left: Plain, right: Plain) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    if isinstance(left, bool) or isinstance(right, bool):
        return _bool_of(left) is not None and _bool_of(left) == _bool_of(right)
    if isinstance(left, (int, float)) or isinstance(right, (int, float)):
        one, other = number_of(left), number_of(right)
        return one is not None and one == other
    if isinstance(left, list) and isinstance(right, list):
        pairs = zip(left, right, strict=False)
        return len(left) == len(right) and all(equal(one, other) for one, other in pairs)
    return left is None and right is None


def _bool_of(value: Plain) -> bool | None:
    if isinstance(value, str):
        return _BOOLS.get(value.strip().lower())
    if isinstance(value, (int, float)) and value in (0, 1):
        return bool(value)
    return None


def is_less(left: Plain, right: Plain) -> bool:
    """Raises UsageError where the two have no order."""
    one, other = number_of(left), number_of(right)
    if one is not None and other is not None:
        return one < other
    if isinstance(left, str) and isinstance(right, str):
        return left < right
    raise UsageError(f"{left!r:.80} and {right!r:.80} have no order: compare two numbers or texts")


def truth(value: Plain) -> bool:
    """Numbers other than 0, texts but the empty one and those that spell no, nothing or 0, lists
    with an element."""
    if isinstance(value, str):
        return value.strip().lower() not in _FALSE_TEXTS
    return bool(value)


def elements_of(value: Ready) -> Sequence[Ready]:
    """Of a list, or of the JSON array that a text spells."""
    container: object = value.plain
    if isinstance(container, str):
        try:
            container = msgspec.json.decode(container)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UsageError(
                f"a list or the text of a JSON array is needed, got {container!r:.80}: {error}"
            ) from error
    if not isinstance(container, list):
        raise UsageError(f"a list or the text of a JSON array is needed, got {value.plain!r:.80}")
    return [element(each) for each in container]


def element(value: object) -> Ready:
    """A nested array or object travels as its JSON text, and so does a number too large to send."""
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return _scalar(str(value))
    if isinstance(value, float) and not math.isfinite(value):
        return _scalar(str(value))
    if value is None or isinstance(value, (str, int, float)):
        return _scalar(value)
    return _scalar(msgspec.json.encode(value).decode())


def _scalar(value: Data) -> Ready:
    return Ready(value, value if isinstance(value, str) else str(value))
