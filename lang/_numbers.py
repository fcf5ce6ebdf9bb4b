"""What counts as a number where a user gives one: True and False are none."""

from __future__ import annotations

from typing import TypeGuard

__all__ = ["is_integer", "is_number"]


def is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
