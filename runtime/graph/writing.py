"""What is appended to a branch: to its text, to what its stream is to get, and to its turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.errors import UsageError

from .content import Exact, RoleMark, spell_all

if TYPE_CHECKING:
    from collections.abc import Iterable

    from furcate.protocol.graph import Role

    from .branch import Branch
    from .roles import Roles
    from .setting import Setting

__all__ = [
    "add_exactly",
    "add_ids",
    "add_markup",
    "add_plain",
    "add_text",
    "change_role",
    "check_ids",
    "open_turn",
]


def add_text(branch: Branch, text: str) -> None:
    roles, opening, said = branch.roles.say(text)
    _enter(branch, roles, opening)
    add_plain(branch, said)


def add_plain(branch: Branch, text: str) -> None:
    branch.pieces.append(text)
    branch.outlet.add_text(text)


def add_exactly(branch: Branch, piece: Exact) -> None:
    open_turn(branch)
    add_markup(branch, (piece,))


def open_turn(branch: Branch, *, is_generated: bool = False) -> None:
    """What the chat template puts before something that is not the program's text."""
    roles, opening = branch.roles.say_exactly(is_generated=is_generated)
    _enter(branch, roles, opening)


def add_markup(branch: Branch, pieces: Iterable[str | Exact]) -> None:
    for piece in pieces:
        branch.pieces.append(piece)
        branch.outlet.add_written(piece)


def add_ids(branch: Branch, ids: tuple[int, ...]) -> None:
    setting = branch.program.setting
    check_ids(ids, setting)
    if ids:
        add_exactly(branch, Exact(ids, spell_all(setting.codec, ids)))


def check_ids(ids: Iterable[int], setting: Setting, what: str = "") -> None:
    for token_id in ids:
        if token_id >= setting.ready.vocab_size:
            raise UsageError(
                f"{what}{token_id!r} is no token id: the model has {setting.ready.vocab_size}, "
                "counted from 0"
            )


def change_role(branch: Branch, node: Role) -> None:
    if node.edge == "begin":
        roles, opening = branch.roles.begin(node.role, branch.program.setting.template)
        _enter(branch, roles, opening)
        return
    roles, closing = branch.roles.end(node.role)
    if branch.roles.has_begun:
        branch.pieces.append(RoleMark.at("end", node.role))
        add_markup(branch, closing)
    else:  # a turn that says nothing
        add_markup(branch, closing)
        branch.pieces += RoleMark.at("begin", node.role), RoleMark.at("end", node.role)
    branch.roles = roles


def _enter(branch: Branch, roles: Roles, opening: Iterable[str | Exact]) -> None:
    """The opening of a turn, where it is written now, and the mark behind it."""
    has_begun = branch.roles.has_begun
    branch.roles = roles
    add_markup(branch, opening)
    if roles.has_begun and not has_begun:
        assert roles.open_role is not None
        branch.pieces.append(RoleMark.at("begin", roles.open_role))
