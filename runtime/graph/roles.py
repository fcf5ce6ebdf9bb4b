"""Which roles a branch has been through, and what the chat template puts around them.

Turns a Role node into pieces of text and control tokens; does not know where they go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from furcate.errors import TemplateError, UsageError
from furcate.runtime.tokenize.turns import Turn

from .content import Exact

if TYPE_CHECKING:
    from collections.abc import Iterable

    from furcate.runtime.tokenize.template import ChatTemplate
    from furcate.runtime.tokenize.turns import Edge
    from furcate.runtime.tokenize.turns import Piece as TemplatePiece

__all__ = ["RolePieces", "Roles"]

RolePieces = tuple[str | Exact, ...]


class _Open(msgspec.Struct, frozen=True):
    """The turn that is open. What it begins with is written with the first thing it says, where
    that depends on whether the model or the program says it. `held` is white space at its end that
    the template would strip if nothing followed."""

    role: str
    edge: Edge
    is_begun: bool = False  # its opening is written
    is_blank: bool = True  # it has said nothing that counts
    is_generated: bool = False
    held: str = ""


class Roles(msgspec.Struct, frozen=True):
    """`past` are all turns so far but for the one that is open. `ending` is what the template puts
    after the last of them if no other follows."""

    past: tuple[Turn, ...] = ()
    turn: _Open | None = None
    ending: RolePieces = ()
    rewrites: bool = False  # the program allows a template that rewrites history

    @property
    def open_role(self) -> str | None:
        return None if self.turn is None else self.turn.role

    @property
    def has_begun(self) -> bool:
        """A turn is open and what it begins with is written."""
        return self.turn is not None and self.turn.is_begun

    @property
    def held(self) -> str:
        """Text that was appended and is said only if more follows in its turn."""
        return "" if self.turn is None else self.turn.held

    def begin(self, role: str, template: ChatTemplate | None) -> tuple[Roles, RolePieces]:
        if template is None:
            raise TemplateError(
                f"the model has no chat template, so role {role!r} cannot be written; write the "
                "prompt as text without roles, or use a model that was trained for chat"
            )
        if self.turn is not None:
            raise UsageError(
                f"role {role!r} begins inside role {self.open_role!r}; end that one first"
            )
        edge = template.edges(self.past, role, "append" if self.rewrites else "strict")
        roles = replace(self, turn=_Open(role, edge), ending=())
        is_one = edge.given == edge.prompted and edge.refusal is None
        return roles._begun(edge.given) if is_one else (roles, ())

    def say(self, text: str) -> tuple[Roles, RolePieces, str]:
        """The text as the turn has it, and what comes before it."""
        turn = self.turn
        if not text:
            return self, (), ""
        if turn is None:
            return replace(self, ending=()), self.ending, text
        if turn.is_blank:
            text = text.lstrip(turn.edge.trims.left)
        if not text:
            return self, (), ""
        roles, opening = self._given()
        text = turn.held + text
        kept = text.rstrip(turn.edge.trims.right)
        return roles._changed(is_blank=False, held=text[len(kept) :]), opening, kept

    def say_exactly(self, *, is_generated: bool = False) -> tuple[Roles, RolePieces]:
        """What comes before something that is not the program's text."""
        turn = self.turn
        if turn is None:
            return replace(self, ending=()), self.ending
        roles, opening = self._begun(turn.edge.prompted) if is_generated else self._given()
        held: RolePieces = (turn.held,) if turn.held else ()
        is_generated = turn.is_generated or (is_generated and turn.is_blank)
        changed = roles._changed(is_blank=False, held="", is_generated=is_generated)
        return changed, opening + held

    def end(self, role: str) -> tuple[Roles, RolePieces]:
        turn = self.turn
        if turn is None or turn.role != role:
            raise UsageError(f"role {role!r} ends, but the open role is {self.open_role!r}")
        _, opening = self._given()
        past = (*self.past, Turn(role, turn.is_generated))
        ended = replace(self, past=past, turn=None, ending=_exact(turn.edge.ending))
        return ended, opening + _exact(turn.edge.suffix)

    def joined(self, start: Roles, child: Roles) -> Roles:
        """After what a child, which began with `start`, has said up to `child` is appended."""
        if child.past == start.past and child.turn == start.turn:
            return self
        past = self.past + child.past[len(start.past) :]
        return replace(self, past=past, turn=child.turn, ending=child.ending)

    def _given(self) -> tuple[Roles, RolePieces]:
        assert self.turn is not None
        refusal = self.turn.edge.refusal
        if refusal is not None and self.turn.is_blank:
            raise TemplateError(refusal)
        return self._begun(self.turn.edge.given)

    def _begun(self, opening: Iterable[TemplatePiece]) -> tuple[Roles, RolePieces]:
        assert self.turn is not None
        if self.turn.is_begun:
            return self, ()
        return self._changed(is_begun=True), _exact(opening)

    def _changed(self, **fields: bool | str) -> Roles:
        assert self.turn is not None
        return replace(self, turn=replace(self.turn, **fields))


def _exact(pieces: Iterable[TemplatePiece]) -> RolePieces:
    return tuple(
        piece if isinstance(piece, str) else Exact((piece.id,), piece.name) for piece in pieces
    )
