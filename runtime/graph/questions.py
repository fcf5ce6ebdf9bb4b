"""Questions of clients that are no program's: facts about the server, and emptying its cache.

Each is passed on to the engine, whose facts come with the front's own. A question waits while one
engine takes the place of another, and is answered without an engine's facts where none will come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.protocol.message import Info
from furcate.protocol.stream import AskEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from furcate.protocol.message import Ask, Data
    from furcate.protocol.stream import EngineFacts

    from .outbox import Outbox

__all__ = ["Facts", "Questions"]

Facts = dict[str, "Data"]


@dataclass(frozen=True, slots=True)
class _Question:
    client: Hashable
    ask: Ask
    own_facts: Callable[[], Facts]


class Questions:
    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._open: dict[int, _Question] = {}
        self._next = 0

    def ask(self, client: Hashable, ask: Ask, own_facts: Callable[[], Facts]) -> None:
        """The client is told once, after the engine has said what it knows."""
        number, self._next = self._next, self._next + 1
        self._open[number] = _Question(client, ask, own_facts)
        self._pass_on(number)

    def answered(self, facts: EngineFacts) -> None:
        question = self._open.pop(facts.number, None)
        if question is not None:
            self._tell(question, facts.facts)

    def ask_again(self) -> None:
        """There is another engine."""
        for number in self._open:
            self._pass_on(number)

    def engine_lost(self) -> None:
        """And no other will come."""
        for question in self._open.values():
            self._tell(question, {})
        self._open.clear()

    def forget(self, client: Hashable) -> None:
        self._open = {n: q for n, q in self._open.items() if q.client != client}

    def _pass_on(self, number: int) -> None:
        flush = self._open[number].ask.what == "flush_cache"
        self._outbox.ask(AskEngine(number, flush))

    def _tell(self, question: _Question, facts: Facts) -> None:
        answer = Info(question.ask.number, {**question.own_facts(), **facts})
        self._outbox.tell(question.client, answer)
