"""Expressions: what a program appends to its state.

An expression is a frozen value; building one has no effect and may happen anywhere, before any
backend exists. What it becomes on the wire is known in `_record.py` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._branch import Branch

__all__ = ["Concat", "Expr", "Part", "TextExpr", "as_expr"]


class Expr:
    """Anything that can be appended to a state: `s += expr`. `+` joins expressions and strings."""

    __slots__ = ()

    def __add__(self, other: Expr | str) -> Expr:
        return Concat(_parts(self) + _parts(as_expr(other)))

    def __radd__(self, other: str) -> Expr:
        return Concat(_parts(as_expr(other)) + _parts(self))


@dataclass(frozen=True, slots=True)
class TextExpr(Expr):
    """Literal text. It never becomes a control token, whatever it spells."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Concat(Expr):
    """Expressions one after the other."""

    parts: tuple[Expr, ...]


class Part(Expr):
    """An expression that records itself."""

    __slots__ = ()

    def record(self, branch: Branch) -> None:
        raise NotImplementedError

    async def record_async(self, branch: Branch) -> None:
        """The same where awaiting is possible."""
        self.record(branch)


def _parts(expr: Expr) -> tuple[Expr, ...]:
    return expr.parts if isinstance(expr, Concat) else (expr,)


def as_expr(value: object) -> Expr:
    """The expression that `value` stands for where something is appended.

    Raises TypeError for anything but an expression or a string: a forgotten return value (None) or
    a number must not silently become text.
    """
    if isinstance(value, Expr):
        return value
    if isinstance(value, str):
        return TextExpr(str(value))
    if value is None:
        raise TypeError("None cannot be appended to a state: does a function lack its `return`?")
    raise TypeError(
        f"only strings and expressions can be appended to a state, got {value!r} "
        f"of type {type(value).__name__}: convert it with str(...)"
    )
