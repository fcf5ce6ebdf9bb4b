"""Calls of a client to an engine, and the program workloads as such a client writes them.

Everything is token ids, so that every engine computes the same tokens; a script holds the texts
between the calls. Runs in any engine's environment and imports the standard library alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

__all__ = ["CLIENTS", "Call", "Reply", "Script"]

Ids = list[int]
Script = dict[str, object]


@dataclass(frozen=True)
class Call:
    """A generation of exactly `max_tokens`, unless something constrains it."""

    ids: Ids
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    schema: str | None = None
    regex: str | None = None
    gbnf: str | None = None  # what the constraint is in llama.cpp's notation
    choices: tuple[str, ...] = ()

    @property
    def is_constrained(self) -> bool:
        return bool(self.schema or self.regex or self.choices)


@dataclass(frozen=True)
class Reply:
    ids: Ids = field(default_factory=list)  # without an end of sequence
    text: str = ""


Ask = Callable[[Call], Awaitable[Reply]]


@dataclass
class _Chat:
    """One conversation: what has been said so far, and a way to ask for more."""

    script: Script
    ask: Ask
    ids: Ids
    seed: int = 0

    def add(self, piece: str) -> None:
        self.ids = self.ids + list(self.script[piece])  # type: ignore[call-overload]

    def fork(self, number: int) -> _Chat:
        return _Chat(self.script, self.ask, list(self.ids), self.seed * 8 + number)

    async def generate(self, max_tokens: int, temperature: float = 0.0) -> Ids:
        reply = await self.ask(Call(self.ids, max_tokens, temperature, self.seed))
        self.ids = self.ids + reply.ids
        return reply.ids

    async def match(self, regex: str, gbnf: str, max_tokens: int) -> str:
        reply = await self.ask(Call(self.ids, max_tokens, regex=regex, gbnf=gbnf))
        self.ids = self.ids + reply.ids
        return reply.text

    async def choose(self, name: str) -> str:
        """Decoding held to the choices: one call, where log-probabilities of each choice would
        take one prompt each."""
        choices: dict[str, Ids] = self.script[name]  # type: ignore[assignment]
        gbnf = "root ::= " + " | ".join(f'"{choice}"' for choice in choices)
        longest = max(map(len, choices.values())) + 1
        reply = await self.ask(
            Call(self.ids, longest, gbnf=gbnf, choices=tuple(choices), seed=self.seed)
        )
        said = reply.text.strip()
        chosen = next((each for each in choices if each.strip() == said), next(iter(choices)))
        self.ids = self.ids + choices[chosen]
        return chosen


async def tree(script: Script, ask: Ask, seed: int) -> str:
    root = _Chat(script, ask, list(script["begin"]), seed)  # type: ignore[call-overload]

    async def leaf(plan: _Chat, number: int) -> tuple[str, _Chat]:
        solution = plan.fork(number)
        await solution.generate(48, 0.8)
        solution.add("rate")
        return await solution.choose("ratings"), solution

    async def branch(number: int) -> list[tuple[str, _Chat]]:
        plan = root.fork(number)
        await plan.generate(32, 0.8)
        plan.add("carry out")
        return list(await asyncio.gather(*(leaf(plan, number) for number in range(2))))

    branches = await asyncio.gather(*(branch(number) for number in range(3)))
    leaves = [leaf for pair in branches for leaf in pair]
    best = max(leaves, key=lambda leaf: leaf[0])[1]
    best.add("final")
    await best.generate(16)
    return leaves[0][0]


async def judge(script: Script, ask: Ask, seed: int) -> str:
    dimensions: list[str] = script["dimensions"]  # type: ignore[assignment]
    root = _Chat(script, ask, list(script["begin"]), seed)  # type: ignore[call-overload]

    async def verdict(name: str) -> Ids:
        fork = root.fork(0)
        fork.add(name)
        why = await fork.generate(32)
        fork.add("verdict")
        await fork.choose("verdicts")
        return why

    reasons = await asyncio.gather(*(verdict(name) for name in dimensions))
    root.add("notes")
    for number, why in enumerate(reasons):
        if number:
            root.add("between notes")
        root.ids = root.ids + why
    root.add("overall")
    return await root.choose("grades")


async def react(script: Script, ask: Ask, seed: int) -> str:
    chat = _Chat(script, ask, list(script["begin"]), seed)  # type: ignore[call-overload]
    results: list[Ids] = script["results"]  # type: ignore[assignment]
    actions = []
    for result in results:
        await chat.generate(24)
        chat.add("action")
        actions.append(await chat.match(str(script["regex"]), str(script["gbnf"]), max_tokens=16))
        chat.ids = chat.ids + result
    return " ".join(actions)


async def chat(script: Script, ask: Ask, seed: int) -> str:
    questions: list[Ids] = script["questions"]  # type: ignore[assignment]
    talk = _Chat(script, ask, [], seed)
    for question in questions:
        talk.ids = talk.ids + question
        await talk.generate(48)
    return ""


CLIENTS = {"tree": tree, "judge": judge, "react": react, "chat": chat}
