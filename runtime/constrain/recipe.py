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
from furcate.protocol.constraint import Kind, Whitespace  # noqa: TC001  (msgspec reads them)

from .schema import parse_schema
from .schema_normal import normalize
from .schema_routing import choose_engine

if TYPE_CHECKING:
    from furcate.protocol.constraint import Constraint

__all__ = ["MAX_BODY_BYTES", "Recipe", "check_body", "prepare"]

MAX_BODY_BYTES = {
    "json_schema": 256 * 1024,
    "regex": 4 * 1024,
    "ebnf": 256 * 1024,
    "lark": 256 * 1024,
}
MAX_EBNF_RULES = 5_000


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """`body` is the text that the engine compiles."""

    engine: Literal["xgrammar", "llguidance"]
    kind: Kind
    body: str
    whitespace: Whitespace


def check_body(constraint: Constraint) -> None:
    """Refuses a body that is empty, over its limit or not text; cheap enough for any thread."""
    kind, body = constraint.kind, constraint.body
    limit = MAX_BODY_BYTES[kind]
    if not body:
        raise ConstraintError(f"the {kind} constraint is empty; give it a body")
    if len(body) > limit or len(body.encode(errors="replace")) > limit:
        raise ConstraintError(
            f"a {kind} constraint may have {limit} bytes, got {len(body)} characters; "
            "make it smaller"
        )
    if kind == "ebnf" and body.count("::=") > MAX_EBNF_RULES:
        raise ConstraintError(
            f"an ebnf constraint may have {MAX_EBNF_RULES} rules, got {body.count('::=')}; "
            "make it smaller"
        )
    index = body.find("\0")
    try:
        body.encode()
    except UnicodeEncodeError as error:
        index = error.start
    if index >= 0:
        raise ConstraintError(
            f"the {kind} constraint contains the character {body[index]!r} at {index}; remove it"
        )


def prepare(constraint: Constraint) -> Recipe:
    """Checks a constraint and chooses its engine; raises ConstraintError."""
    check_body(constraint)
    if constraint.engine == "outlines":
        raise ConstraintError(
            "engine 'outlines' is not available in this version; use engine='auto'"
        )
    if constraint.kind == "json_schema":
        schema = normalize(parse_schema(constraint.body))
        engine = choose_engine(schema, constraint.engine)
        body = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    else:
        engine = "xgrammar" if constraint.kind == "ebnf" else "llguidance"
        body = constraint.body
        if constraint.engine not in ("auto", engine):
            raise ConstraintError(
                f"engine {constraint.engine!r} does not take {constraint.kind} constraints; "
                f"use engine={engine!r} or 'auto'"
            )
    return Recipe(engine=engine, kind=constraint.kind, body=body, whitespace=constraint.whitespace)
