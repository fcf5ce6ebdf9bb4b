"""A constraint made ready to compile: checked, in normal form, with its engine chosen.

Plain data, so that it can go to the compile worker and be part of a cache key. Routing is decided
here and nowhere else: regular expressions and Lark go to llguidance, EBNF to xgrammar, and a JSON
schema to the first engine that enforces every keyword it uses.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import msgspec

from furcate.errors import ConstraintError

from .schema import parse_schema
from .schema_normal import normalize
from .schema_routing import choose_engine

if TYPE_CHECKING:
    from furcate.protocol.constraint import Constraint, Kind, Whitespace

__all__ = ["MAX_BODY_BYTES", "Recipe", "check_size", "prepare"]

MAX_BODY_BYTES = {
    "json_schema": 256 * 1024,
    "regex": 4 * 1024,
    "ebnf": 256 * 1024,
    "lark": 256 * 1024,
}


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """`body` is the text that the engine compiles."""

    engine: Literal["xgrammar", "llguidance"]
    kind: Kind
    body: str
    whitespace: Whitespace


def check_size(constraint: Constraint) -> None:
    """Refuses a body over its limit; cheap enough for any thread."""
    limit = MAX_BODY_BYTES[constraint.kind]
    if len(constraint.body) > limit or len(constraint.body.encode("utf-8", "replace")) > limit:
        raise ConstraintError(
            f"a {constraint.kind} constraint may have {limit} bytes, "
            f"got {len(constraint.body)} characters; make it smaller"
        )


def prepare(constraint: Constraint) -> Recipe:
    """Checks a constraint and chooses its engine; raises ConstraintError."""
    check_size(constraint)
    if constraint.engine == "outlines":
        raise ConstraintError(
            "engine 'outlines' is not available in this version; use engine='auto'"
        )
    _check_text(constraint)
    if constraint.kind == "json_schema":
        schema = normalize(parse_schema(constraint.body))
        engine = choose_engine(schema, constraint.engine, constraint.whitespace)
        body = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    else:
        engine = "xgrammar" if constraint.kind == "ebnf" else "llguidance"
        body = constraint.body
        if constraint.engine not in ("auto", engine):
            raise ConstraintError(
                f"engine {constraint.engine!r} does not take {constraint.kind} constraints; "
                f"use engine={engine!r} or 'auto'"
            )
    return Recipe(
        engine=engine, kind=constraint.kind, body=body, whitespace=constraint.whitespace
    )


def _check_text(constraint: Constraint) -> None:
    if not constraint.body:
        raise ConstraintError(f"the {constraint.kind} constraint is empty; give it a body")
    try:
        constraint.body.encode()
    except UnicodeEncodeError as error:
        raise ConstraintError(
            f"the {constraint.kind} constraint is not Unicode text: "
            f"character {error.object[error.start]!r} at {error.start}; remove it"
        ) from None
    if "\0" in constraint.body:
        raise ConstraintError(
            f"the {constraint.kind} constraint contains the character '\\x00' "
            f"at {constraint.body.index(chr(0))}; remove it"
        )
