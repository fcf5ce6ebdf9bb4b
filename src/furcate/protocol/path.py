"""Paths into JSON: `$`, `$.items[0].name`, `$["a key"][-1]`.

What a path is made of, and what is found at it. A small and exact part of what is called JSONPath:
no wildcards, no filters, so a path leads to one element or to none.
"""

from __future__ import annotations

import json
import re

from furcate.errors import UsageError

__all__ = ["NOTHING", "follow", "parse_path"]

NOTHING = object()  # what stands where there is no such element

_MAX_CHARS = 1024
_STEP = re.compile(
    r"""\.(?P<name>[^\W\d][\w-]*)|\[(?P<index>-?\d{1,9})\]|\[(?P<key>"(?:[^"\\]|\\.)*")\]"""
    r"""|\['(?P<plain>[^'\\]*)'\]"""
)


def parse_path(path: object) -> tuple[str | int, ...]:
    """The keys and indices. Raises UsageError where it is no path."""
    if not isinstance(path, str) or not path.startswith("$") or len(path) > _MAX_CHARS:
        raise UsageError(f"a JSON path begins with '$', such as '$.items[0].name', got {path!r}")
    steps: list[str | int] = []
    at = 1
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            raise UsageError(
                f"the JSON path {path!r} cannot be read at {path[at:]!r}: steps are .name, [0], "
                '[-1] and ["any key"]'
            )
        steps.append(_step(found))
        at = found.end()
    return tuple(steps)


def _step(found: re.Match[str]) -> str | int:
    if found["index"] is not None:
        return int(found["index"])
    if found["key"] is not None:
        try:
            return str(json.loads(found["key"]))
        except ValueError as error:
            raise UsageError(f"{found['key']} is no JSON string: {error}") from error
    return found["name"] if found["name"] is not None else found["plain"]


def follow(value: object, steps: tuple[str | int, ...]) -> object:
    """The element, or NOTHING."""
    for step in steps:
        if isinstance(value, dict) and isinstance(step, str) and step in value:
            value = value[step]
        elif isinstance(value, list) and isinstance(step, int) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return NOTHING
    return value
