"""`special`: one control token by name."""

from __future__ import annotations

from dataclasses import dataclass

from furcate.errors import UsageError

from ._expr import Expr

__all__ = ["SpecialExpr", "special"]


@dataclass(frozen=True, slots=True)
class SpecialExpr(Expr):
    name: str


def special(name: str) -> Expr:
    """The control token of that name, such as `special("<|im_end|>")`.

    Text never turns into control tokens by itself; this is the explicit way. A name that the
    model's tokenizer does not have fails when the program runs.
    """
    if not isinstance(name, str) or not name:
        raise UsageError(f"special() takes the name of a control token, got {name!r}")
    return SpecialExpr(name)
