"""Types of values: one kind or another, and one that holds itself."""

from typing import Literal

import pydantic

__all__ = ["Cat", "Dog", "Tree"]


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    name: str


class Tree(pydantic.BaseModel):
    value: int
    children: list["Tree"] = []
