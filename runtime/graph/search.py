"""Looking into values: patterns, and paths into JSON.

The engine of patterns does not backtrack: a search takes time linear in the text, whatever the
pattern.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Protocol, cast

import msgspec
import re2

from furcate.errors import UsageError
from furcate.protocol.path import NOTHING, follow, parse_path

from .compare import element

if TYPE_CHECKING:
    from collections.abc import Mapping

    from furcate.protocol.message import Data

    from .cell import Ready

__all__ = ["find", "found_at", "matches"]

MAX_PATTERN_CHARS = 1024
MAX_PATTERN_BYTES = 2**20  # of a compiled one


class Found(Protocol):
    def group(self, group: int | str) -> str | None: ...


class Expression(Protocol):
    """A compiled pattern."""

    @property
    def groups(self) -> int: ...

    @property
    def groupindex(self) -> Mapping[str, int]: ...

    def search(self, text: str) -> Found | None: ...


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Expression:
    options = re2.Options()
    options.max_mem = MAX_PATTERN_BYTES
    options.log_errors = False
    try:
        return cast("Expression", re2.compile(pattern, options))
    except re2.error as error:
        raise UsageError(f"the pattern {pattern!r} cannot be used: {error}") from error


def _pattern(pattern: Data) -> Expression:
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN_CHARS:
        raise UsageError(
            f"a pattern is a text of at most {MAX_PATTERN_CHARS} characters, got {pattern!r:.80}"
        )
    return _compiled(pattern)


def matches(text: str, pattern: Data) -> bool:
    return _pattern(pattern).search(text) is not None


def find(text: str, pattern: Data, group: Data) -> str | None:
    """What the group of the first match is; None where nothing matches, or that group nothing."""
    expression = _pattern(pattern)
    if isinstance(group, bool) or not isinstance(group, (int, str)):
        raise UsageError(f"a group is a number or a name, got {group!r}")
    known = range(expression.groups + 1) if isinstance(group, int) else expression.groupindex
    if group not in known:
        raise UsageError(f"the pattern {pattern!r} has no group {group!r}")
    found = expression.search(text)
    return None if found is None else found.group(group)


def found_at(value: Ready, path: Data) -> Ready:
    """The element at a path into a list or into JSON text."""
    steps = parse_path(path)
    container: object = value.plain
    if isinstance(container, str):
        try:
            container = msgspec.json.decode(container)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UsageError(f"{container!r:.80} is no JSON: {error}") from error
    found = follow(container, steps)
    if found is NOTHING:
        raise UsageError(f"there is nothing at {path!r} in {value.plain!r:.80}")
    return element(found)
