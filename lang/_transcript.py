"""A branch in words: its turns, and what of its text is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ._branch import RoleMark
from ._slot import Slot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._branch import Branch, Entry

__all__ = ["Message", "known_text", "messages_of"]

Message = dict[Literal["role", "content"], str]


def messages_of(branch: Branch) -> list[Message]:
    """The turns; waits for their text."""
    turns: list[Message] = []
    role = None
    for entry in list(branch.log):
        if isinstance(entry, RoleMark):
            role = entry.role if entry.edge == "begin" else None
            if role is not None:
                turns.append({"role": role, "content": ""})
        elif role is not None:
            turns[-1]["content"] += _text_of(branch, entry)
    return turns


def _text_of(branch: Branch, entry: Entry) -> str:
    if isinstance(entry, Slot):
        branch.program.value(entry)
        return entry.text()
    return entry if isinstance(entry, str) else ""


def known_text(branch: Branch) -> Iterator[str]:
    """What is known without waiting; a value that is not there shows as its label."""
    for entry in list(branch.log):
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, Slot):
            there = entry.settled and entry.failure is None
            yield entry.text() if there else f"<{entry.label}>"
