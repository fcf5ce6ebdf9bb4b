"""What an output must look like, as data: never a compiled grammar, never code."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Constraint", "Engine", "Kind", "Whitespace"]

Kind = Literal["json_schema", "regex", "ebnf", "lark"]
Engine = Literal["auto", "xgrammar", "llguidance", "outlines"]
Whitespace = Literal["compact", "bounded", "free"]


class Constraint(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """`body` is the schema as JSON text, the regular expression, or the grammar.

    `whitespace` says how much insignificant white space JSON may have: none, at most one character
    in a row, or as much as the engine allows. `engine` forces one; what it cannot enforce is then
    an error.
    """

    kind: Kind
    body: str
    whitespace: Whitespace = "bounded"
    engine: Engine = "auto"
