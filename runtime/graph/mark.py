"""Marks: the text between two places of a branch, as a value.

A mark looks at what the branch says and changes none of it: no text run ends there, and a turn that
has not begun yet begins where its first content stands, outside of a mark that was set before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.errors import UsageError

from .cell import Cell, Ready
from .content import RoleMark, holes, text_of
from .derived import Derived

if TYPE_CHECKING:
    from furcate.protocol.graph import Mark

    from .branch import Branch
    from .content import Piece
    from .entry import Entry

__all__ = ["OpenMark", "begin_mark", "end_mark"]


@dataclass(frozen=True, slots=True)
class OpenMark:
    """`start` counts the branch's pieces before it. `held` is text before it that the branch has
    not said yet, because the template may trim it. `before_turn`: the open turn has still to
    begin."""

    start: int
    held: str
    before_turn: bool


def begin_mark(branch: Branch, node: Mark) -> None:
    roles = branch.roles
    before_turn = roles.open_role is not None and not roles.has_begun
    branch.marks[node.value] = OpenMark(len(branch.pieces), roles.held, before_turn)


def end_mark(branch: Branch, entry: Entry, node: Mark) -> None:
    assert entry.cell is not None
    mark = branch.marks.pop(node.value, None)
    if mark is None:
        raise UsageError(f"the mark of value {node.value} ends and has not begun on this branch")
    program, held = branch.program, branch.roles.held
    pieces = _inside(mark, branch.pieces[mark.start :])

    def compute() -> Ready:
        texts = [text_of(piece) for piece in pieces]
        program.charge(sum(map(len, texts)))
        text = ("".join(texts) + held).removeprefix(mark.held)
        return Ready(text, text)

    needs = holes(pieces) or _last_hole(branch, mark.start)
    program.derive(Derived(program, entry.cell, needs, compute))


def _last_hole(branch: Branch, before: int) -> list[Cell]:
    """What the engine has yet to produce before the mark: where that fails, so does what comes
    behind, whether it is known by now or not."""
    own = (branch.pieces[place] for place in range(before - 1, -1, -1))
    found = next((piece for piece in own if isinstance(piece, Cell)), None)
    if found is None and branch.parent is not None:
        inherited = reversed(branch.history()[: -len(branch.pieces) or None])
        found = next((piece for piece in inherited if isinstance(piece, Cell)), None)
    return [] if found is None else [found]


def _inside(mark: OpenMark, pieces: list[Piece]) -> list[Piece]:
    """Without the beginning of the turn that the mark stands in."""
    if not mark.before_turn:
        return pieces
    begins = (
        place
        for place, piece in enumerate(pieces)
        if isinstance(piece, RoleMark) and piece.edge == "begin"
    )
    return pieces[next(begins, -1) + 1 :]
