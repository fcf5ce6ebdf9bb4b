"""What a branch says, as text: literal text, control tokens and other exact ids, generated parts.

Kept for TextOf and Join. What of it the engine knows, and as which ids, is the outlet's matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from furcate.errors import UsageError

from .cell import Cell, Ready

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from furcate.runtime.tokenize.base import TextCodec

__all__ = ["Exact", "Piece", "RoleMark", "holes", "spell", "spell_all", "text_of", "turns_of"]


class Exact(msgspec.Struct, frozen=True, gc=False):
    """Token ids that no tokenizer chose, and how they read."""

    ids: tuple[int, ...]
    spelling: str


class RoleMark(Exact, frozen=True):
    """Before and behind what a turn says; no part of the text."""

    role: str
    edge: Literal["begin", "end"]

    @classmethod
    def at(cls, edge: Literal["begin", "end"], role: str) -> RoleMark:
        return cls((), "", role, edge)


Piece = str | Exact | Cell


def holes(pieces: Iterable[Piece]) -> list[Cell]:
    """The parts that the engine has yet to produce."""
    return [piece for piece in pieces if isinstance(piece, Cell)]


def text_of(piece: Piece) -> str:
    """The text of a piece; one that is still to come is none of the caller's business."""
    if isinstance(piece, str):
        return piece
    if isinstance(piece, Exact):
        return piece.spelling
    assert isinstance(piece.outcome, Ready)
    return fill_text(piece)


def turns_of(pieces: Iterable[Piece]) -> list[tuple[str, str]]:
    """Roles and what they say; what stands between the turns is the template's."""
    turns: list[tuple[str, str]] = []
    is_open = False
    for piece in pieces:
        if isinstance(piece, RoleMark):
            is_open = piece.edge == "begin"
            turns += [(piece.role, "")] * is_open
        elif is_open:
            role, text = turns[-1]
            turns[-1] = (role, text + text_of(piece))
    return turns


def fill_text(cell: Cell) -> str:
    """What a Fill of this value appends."""
    assert isinstance(cell.outcome, Ready)
    text = cell.outcome.text
    if text is None:
        raise UsageError(
            f"value {cell.value!r} of node {cell.ordinal} is a list, not a text; "
            "take one element of it with item"
        )
    return text


def spell(codec: TextCodec, token_id: int) -> bytes:
    """The bytes of a token as people write it: a control token by its name."""
    if token_id in codec.control_ids:
        names = codec.control_names
        return next(name for name, known in names.items() if known == token_id).encode()
    # A model's logits may be wider than the tokenizer's table; such an id has no bytes.
    return codec.table[token_id] if 0 <= token_id < len(codec.table) else b""


def spell_all(codec: TextCodec, ids: Sequence[int]) -> str:
    return b"".join(spell(codec, token_id) for token_id in ids).decode("utf-8", "replace")
