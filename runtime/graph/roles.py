"""Which roles a branch has been through, and what the chat template puts around them.

Turns a Role node into pieces of text and control tokens; does not know where they go.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from furcate.errors import TemplateError, UsageError

from .content import Exact

if TYPE_CHECKING:
    from collections.abc import Iterable

    from furcate.runtime.tokenize.template import ChatTemplate
    from furcate.runtime.tokenize.template import Piece as TemplatePiece

__all__ = ["RolePieces", "Roles"]

RolePieces = tuple[str | Exact, ...]


@dataclass(frozen=True, slots=True)
class Roles:
    """`past` are all roles so far, an open one included. `suffix` ends the open one, which is the
    last of `past`; None: no role is open."""

    past: tuple[str, ...] = ()
    suffix: RolePieces | None = None
    rewrites: bool = False  # the program allows a template that rewrites history

    @property
    def open_role(self) -> str | None:
        return None if self.suffix is None else self.past[-1]

    def begin(self, role: str, template: ChatTemplate | None) -> tuple[Roles, RolePieces]:
        if template is None:
            raise TemplateError(
                f"the model has no chat template, so role {role!r} cannot be written; write the "
                "prompt as text without roles, or use a model that was trained for chat"
            )
        if self.suffix is not None:
            raise UsageError(
                f"role {role!r} begins inside role {self.open_role!r}; end that one first"
            )
        past = (*self.past, role)
        edge = template.edges(past, "append" if self.rewrites else "strict")
        return replace(self, past=past, suffix=_exact(edge.suffix)), _exact(edge.prefix)

    def end(self, role: str) -> tuple[Roles, RolePieces]:
        if self.suffix is None or self.open_role != role:
            raise UsageError(f"role {role!r} ends, but the open role is {self.open_role!r}")
        return replace(self, suffix=None), self.suffix

    def joined(self, start: Roles, child: Roles) -> Roles:
        """After what a child, which began with `start`, has said up to `child` is appended."""
        if child.past == start.past and child.suffix == start.suffix:
            return self
        return replace(self, past=self.past + child.past[len(start.past) :], suffix=child.suffix)


def _exact(pieces: Iterable[TemplatePiece]) -> RolePieces:
    return tuple(
        piece if isinstance(piece, str) else Exact((piece.id,), piece.name) for piece in pieces
    )
