"""The turns of a conversation, and what a chat template puts around them. Facts only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

__all__ = ["Control", "Edge", "Message", "Mode", "Piece", "Trims", "Turn"]

Mode = Literal["strict", "append"]


class Message(TypedDict):
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Control:
    """A control token that the template wrote."""

    name: str
    id: int


Piece = str | Control


@dataclass(frozen=True, slots=True)
class Turn:
    """Of a conversation so far. `is_generated`: its content began with the model's own tokens."""

    role: str
    is_generated: bool = False


@dataclass(frozen=True, slots=True)
class Trims:
    """The characters that the template strips off a content, as `str.strip` takes them: "" for
    none, None for all white space."""

    left: str | None = ""
    right: str | None = ""


@dataclass(frozen=True, slots=True)
class Edge:
    """What stands before a turn's content, `given` if it is text and `prompted` if the model is to
    generate it, and after it: `suffix` always, then `ending` where no other turn follows.
    `refusal`: why the content cannot be given."""

    given: tuple[Piece, ...]
    prompted: tuple[Piece, ...]
    suffix: tuple[Piece, ...]
    ending: tuple[Piece, ...] = ()
    trims: Trims = Trims()
    refusal: str | None = None
