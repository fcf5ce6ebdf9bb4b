"""The turns of a conversation, and what a chat template puts around them. Facts only."""

from __future__ import annotations

from typing import Literal, TypedDict

import msgspec

__all__ = ["Control", "Edge", "Message", "Mode", "Piece", "Trims", "Turn"]

Mode = Literal["strict", "append"]


class Message(TypedDict):
    role: str
    content: str


class Control(msgspec.Struct, frozen=True, gc=False):
    """A control token that the template wrote."""

    name: str
    id: int


Piece = str | Control


class Turn(msgspec.Struct, frozen=True, gc=False):
    """Of a conversation so far. `is_generated`: its content began with the model's own tokens."""

    role: str
    is_generated: bool = False


class Trims(msgspec.Struct, frozen=True, gc=False):
    """The characters that the template strips off a content, as `str.strip` takes them: "" for
    none, None for all white space."""

    left: str | None = ""
    right: str | None = ""


class Edge(msgspec.Struct, frozen=True, gc=False):
    """What stands before a turn's content, `given` if it is text and `prompted` if the model is to
    generate it, and after it: `suffix` always, then `ending` where no other turn follows.
    `refusal`: why the content cannot be given."""

    given: tuple[Piece, ...]
    prompted: tuple[Piece, ...]
    suffix: tuple[Piece, ...]
    ending: tuple[Piece, ...] = ()
    trims: Trims = Trims()
    refusal: str | None = None
