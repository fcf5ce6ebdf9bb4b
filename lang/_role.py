"""Roles: the turns of a conversation.

What stands around a turn comes from the model's own chat template, on the other side of the wire;
here a role is only its name and its two edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ._expr import Expr, as_expr

__all__ = [
    "RoleEdge",
    "RoleExpr",
    "assistant",
    "assistant_begin",
    "assistant_end",
    "system",
    "system_begin",
    "system_end",
    "user",
    "user_begin",
    "user_end",
]


@dataclass(frozen=True, slots=True)
class RoleExpr(Expr):
    """A whole turn."""

    role: str
    body: Expr


@dataclass(frozen=True, slots=True)
class RoleEdge(Expr):
    """The beginning or the end of a turn."""

    role: str
    edge: Literal["begin", "end"]


def system(expr: Expr | str) -> Expr:
    """A system turn that holds `expr`."""
    return RoleExpr("system", as_expr(expr))


def user(expr: Expr | str) -> Expr:
    """A user turn that holds `expr`."""
    return RoleExpr("user", as_expr(expr))


def assistant(expr: Expr | str) -> Expr:
    """An assistant turn that holds `expr`; a `gen` inside it stops at the end of the turn."""
    return RoleExpr("assistant", as_expr(expr))


def system_begin() -> Expr:
    """Opens a system turn; `system_end()` closes it."""
    return RoleEdge("system", "begin")


def system_end() -> Expr:
    """Closes the system turn that `system_begin()` opened."""
    return RoleEdge("system", "end")


def user_begin() -> Expr:
    """Opens a user turn; `user_end()` closes it."""
    return RoleEdge("user", "begin")


def user_end() -> Expr:
    """Closes the user turn that `user_begin()` opened."""
    return RoleEdge("user", "end")


def assistant_begin() -> Expr:
    """Opens an assistant turn; `assistant_end()` closes it."""
    return RoleEdge("assistant", "begin")


def assistant_end() -> Expr:
    """Closes the assistant turn that `assistant_begin()` opened."""
    return RoleEdge("assistant", "end")
