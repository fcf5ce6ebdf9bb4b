"""A branch in words: its turns, and what of its text is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from furcate.protocol.graph import TextOf

from ._branch import Elected, Flow, RoleMark
from ._elect import has_flow, log_of
from ._location import caller_location
from ._session import turns_of
from ._slot import Slot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._branch import Branch, Entry

__all__ = ["Message", "known_text", "messages_of", "messages_of_async"]

Message = dict[Literal["role", "content"], str]


def messages_of(branch: Branch) -> list[Message]:
    """The turns; waits for their text."""
    branch.program.check_may_read("messages()")
    if has_flow(branch):
        return _messages(branch.program.value(_ask_turns(branch)))
    turns = _turns_before(branch)
    role = None
    for entry in log_of(branch):
        if isinstance(entry, RoleMark):
            role = entry.role if entry.edge == "begin" else None
            if role is not None:
                turns.append({"role": role, "content": ""})
        elif role is not None:
            turns[-1]["content"] += _text_of(branch, entry)
    return turns


async def messages_of_async(branch: Branch) -> list[Message]:
    """The same without blocking the event loop."""
    branch.program.check_may_read("messages()")
    return _messages(await branch.program.value_async(_ask_turns(branch)))


def _ask_turns(branch: Branch) -> Slot:
    """As the runtime knows them, which alone knows how control flow went."""
    location = caller_location()
    slot = branch.program.new_slot("messages", location, branch.number)
    branch.program.record(TextOf(branch.number, slot.value_id, turns=True), "messages", location)
    return slot


def _messages(pairs: object) -> list[Message]:
    assert isinstance(pairs, list)
    return [{"role": role, "content": text} for role, text in pairs]


def _turns_before(branch: Branch) -> list[Message]:
    """Those of the session that the program began from."""
    slot = turns_of(branch)
    return _messages(branch.program.value(slot)) if slot is not None else []


def _text_of(branch: Branch, entry: Entry) -> str:
    if isinstance(entry, Slot):
        branch.program.value(entry)
        return entry.text()
    return entry if isinstance(entry, str) else ""


def known_text(branch: Branch) -> Iterator[str]:
    """What is known without waiting; a value that is not there shows as its label."""
    todo = list(reversed(branch.log))
    while todo:
        entry = todo.pop()
        if isinstance(entry, Elected):
            is_decided = entry.order.settled and entry.order.failure is None
            todo += reversed(entry.chosen if is_decided else [f"<{entry.order.label}>"])
        elif isinstance(entry, str):
            yield entry
        elif isinstance(entry, Flow):
            yield f"<{entry.label}>"
        elif isinstance(entry, Slot):
            there = entry.settled and entry.failure is None
            yield entry.text() if there else f"<{entry.label}>"
