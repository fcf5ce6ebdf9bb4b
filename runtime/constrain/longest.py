"""How long an output of a constraint can be at most, where that is easily seen.

An upper bound in bytes, and so in tokens: each spells at least one. Nothing here decides what is
allowed; whoever plans memory wants to know what can never be needed. No answer is always right.
"""

from __future__ import annotations

import json
import re._parser  # type: ignore[import-not-found]
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from furcate.protocol.constraint import Constraint

__all__ = ["longest_output"]

Schema = dict[str, object]

CHARACTER = 4  # bytes at most, in UTF-8
ESCAPED = 12  # of one character in a JSON string: a pair of \uXXXX
NUMBER = 24  # as the guard of numbers has it
GAPS = 4  # white space around one value, its comma or colon included
# What changes no length upwards; any other keyword is not understood here.
HARMLESS = {"title", "description", "default", "examples", "type", "pattern", "format", "minLength"}
HARMLESS |= {"minItems", "required", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
HARMLESS |= {"multipleOf", "uniqueItems", "$schema", "$id"}


def longest_output(constraint: Constraint) -> int | None:
    """Bytes; None where there is no limit, or where it takes more to see it."""
    if constraint.kind == "regex":
        return _longest_match(constraint.body)
    if constraint.kind == "json_schema" and constraint.whitespace != "free":
        try:
            return _longest_value(json.loads(constraint.body))
        except (ValueError, RecursionError):
            return None
    return None


def _longest_match(pattern: str) -> int | None:
    try:
        _, most = re._parser.parse(pattern).getwidth()
    except (re.error, RecursionError, OverflowError):
        return None
    return None if most >= re._parser.MAXREPEAT else int(most) * CHARACTER


def _longest_value(schema: object) -> int | None:
    if not isinstance(schema, dict):
        return None
    if "const" in schema:
        return _literal(schema["const"])
    values = schema.get("enum")
    if isinstance(values, list):
        return max(map(_literal, values), default=None)
    for keyword in ("anyOf", "oneOf"):
        branches = schema.get(keyword)
        if isinstance(branches, list) and schema.keys() <= {keyword, *HARMLESS}:
            return _most([_longest_value(branch) for branch in branches])
    match schema.get("type"):
        case "string":
            return _times(schema, "maxLength", ESCAPED, 2 + GAPS, {"maxLength"})
        case "integer" | "number":
            return NUMBER + GAPS if schema.keys() <= HARMLESS else None
        case "boolean" | "null":
            return len("false") + GAPS if schema.keys() <= HARMLESS else None
        case "array":
            item = _longest_value(schema.get("items"))
            known = {"items", "maxItems"}
            return None if item is None else _times(schema, "maxItems", item, 2 + GAPS, known)
        case "object":
            return _longest_object(schema)
    return None


def _longest_object(schema: Schema) -> int | None:
    members = schema.get("properties")
    is_closed = schema.get("additionalProperties") is False
    known = {"properties", "additionalProperties", *HARMLESS}
    if not isinstance(members, dict) or not is_closed or not schema.keys() <= known:
        return None
    total = 2 + GAPS
    for name, member in members.items():
        value = _longest_value(member)
        if value is None:
            return None
        total += _literal(name) + value
    return total


def _times(schema: Schema, keyword: str, each: int, more: int, known: set[str]) -> int | None:
    count = schema.get(keyword)
    if not isinstance(count, int) or not schema.keys() <= HARMLESS | known:
        return None
    return count * each + more


def _literal(value: object) -> int:
    """Of a value that is given: every character may be escaped."""
    return len(json.dumps(value, ensure_ascii=False)) * ESCAPED + GAPS


def _most(lengths: list[int | None]) -> int | None:
    known = [length for length in lengths if length is not None]
    return max(known, default=None) if len(known) == len(lengths) else None
