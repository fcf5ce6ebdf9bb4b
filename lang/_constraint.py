"""Constraints as users give them, checked at the call and turned into data.

The checks are about form: is this a regular expression at all, is this JSON. Whether an engine can
enforce it is known on the other side and comes back as a ConstraintError of the node.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping

from furcate.errors import ConstraintError, UsageError
from furcate.protocol.constraint import Constraint

__all__ = ["alternation", "dtype_constraint", "json_constraint", "regex_constraint"]

_NUMBER_STOPS = (" ", "\n")
_DTYPES: dict[object, tuple[str, tuple[str, ...]]] = {
    int: (r"[-+]?[0-9]+[ \n]*", _NUMBER_STOPS),
    float: (r"[-+]?[0-9]*\.?[0-9]+[ \n]*", _NUMBER_STOPS),
    bool: (r"(True|False)", ()),
    str: (r"\"[\w\d\s]*\"", ()),
}
_DTYPE_NAMES: dict[object, type] = {"int": int, "float": float, "bool": bool, "str": str}

# Forms that grammar engines know and Python's `re` does not, in a spelling that it does.
_UNICODE_CLASS = re.compile(r"\\[pP](\{[^}]*\}|[A-Za-z])")
_NAMED_GROUP = re.compile(r"\(\?<(?=[A-Za-z_])")
_META = re.compile(r"[\\.+*?()|\[\]{}^$]")


class UnknownDtype(UsageError, RuntimeError):
    """Also a RuntimeError, which programs from other frontends expect here."""


def regex_constraint(pattern: str) -> Constraint:
    """Raises ConstraintError if `pattern` is no regular expression. It is parsed here, never
    searched with."""
    if not isinstance(pattern, str):
        raise UsageError(f"regex must be a string, got {pattern!r}")
    if not pattern:
        raise ConstraintError("regex '' allows no text: leave it out for free text")
    spelling = _NAMED_GROUP.sub("(?P<", _UNICODE_CLASS.sub(r"\\w", pattern))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(spelling)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConstraintError(f"regex {pattern!r} is not a regular expression: {error}") from error
    return Constraint(kind="regex", body=pattern)


def alternation(texts: tuple[str, ...]) -> Constraint:
    """Exactly one of the texts. Only what is special everywhere is escaped: engines differ in what
    else they accept behind a backslash."""
    body = "|".join(_META.sub(lambda found: "\\" + found.group(), text) for text in texts)
    return Constraint(kind="regex", body=f"({body})")


def dtype_constraint(dtype: object) -> tuple[Constraint, tuple[str, ...]]:
    """The constraint and the additional stop strings of `dtype=`."""
    known = _DTYPE_NAMES.get(dtype, dtype) if isinstance(dtype, str) else dtype
    for kind, (pattern, stops) in _DTYPES.items():
        if known is kind:
            return Constraint(kind="regex", body=pattern), stops
    raise UnknownDtype(
        f"dtype must be int, float, bool or str, got {dtype!r}: for other types use type="
    )


def json_constraint(schema: str | Mapping[str, object]) -> Constraint:
    """Accepts JSON text or a mapping; the order of the properties is kept."""
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError) as error:
            raise ConstraintError(
                f"json_schema is not JSON ({error}): {str(schema)[:200]!r}"
            ) from error
    if not isinstance(schema, Mapping):
        raise ConstraintError(
            f"json_schema must be a JSON object, a dict or a type, got {schema!r}"
        )
    try:
        body = json.dumps(schema, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConstraintError(f"json_schema cannot be written as JSON: {error}") from error
    return Constraint(kind="json_schema", body=body)
