"""Random programs with loops, switches and forks, and the two ways to run one: in the graph, and
eagerly, as ordinary Python that reads every value at once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import strategies as st

import furcate as fc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import DrawFn

__all__ = ["eagerly", "flow_programs", "in_the_graph"]

NAMES = ("u", "v", "w")
CHOICES = ("yes", "no", "maybe")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Write:
    text: str


@dataclass(frozen=True)
class Generate:
    name: str
    max_tokens: int


@dataclass(frozen=True)
class Choose:
    name: str


@dataclass(frozen=True)
class Fill:
    name: str


@dataclass(frozen=True)
class Assign:
    name: str
    source: str


@dataclass(frozen=True)
class Condition:
    """`letters` in the variable; negated or not."""

    name: str
    letters: str
    is_negated: bool


@dataclass(frozen=True)
class Loop:
    body: tuple[object, ...]
    max_iters: int
    until: Condition | None


@dataclass(frozen=True)
class Each:
    items: tuple[str, ...]
    body: tuple[object, ...]


@dataclass(frozen=True)
class Switch:
    """`stops`: the first case ends the loop around it."""

    on: str
    first: tuple[object, ...]
    other: tuple[object, ...]
    stops: bool


@dataclass(frozen=True)
class Fork:
    bodies: tuple[tuple[object, ...], ...]


@dataclass(frozen=True)
class ForkOver:
    """A child for each item; what its variable `shown` is, is appended."""

    items: tuple[str, ...]
    body: tuple[object, ...]
    shown: str


@st.composite
def blocks(
    draw: DrawFn, known: frozenset[str], depth: int, in_loop: bool
) -> tuple[tuple[object, ...], frozenset[str]]:
    """Statements, and the names that are set after them whatever happens."""
    statements: list[object] = []
    kinds = ["write", "gen", "gen", "choose", "fill", "assign"]
    kinds += ["loop", "each", "switch", "switch", "fork", "over"] if depth else []
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4)):
        name = draw(st.sampled_from(NAMES))
        match kind:
            case "gen":
                statements.append(Generate(name, draw(st.integers(1, 4))))
                known |= {name}
            case "choose":
                statements.append(Choose(name))
                known |= {name}
            case "fill" if known:
                statements.append(Fill(draw(st.sampled_from(sorted(known)))))
            case "assign" if known:
                statements.append(Assign(name, draw(st.sampled_from(sorted(known)))))
                known |= {name}
            case "loop":
                body, after = draw(blocks(known, depth - 1, True))
                until = None
                if draw(st.booleans()):
                    until = draw(conditions(after)) if after else None
                statements.append(Loop(body, draw(st.integers(1, 3)), until))
                known |= after
            case "each":
                body, _ = draw(blocks(known, depth - 1, True))
                items = tuple(draw(st.lists(st.sampled_from("xyz"), max_size=2)))
                statements.append(Each(items, body))
            case "switch" if known:
                on = draw(st.sampled_from(sorted(known)))
                first, one = draw(blocks(known, depth - 1, in_loop))
                other, two = draw(blocks(known, depth - 1, in_loop))
                statements.append(Switch(on, first, other, in_loop and draw(st.booleans())))
                known |= one & two
            case "over":
                body, _ = draw(blocks(known | {name}, depth - 1, False))
                items = tuple(draw(st.lists(st.sampled_from("xyz"), max_size=3)))
                statements.append(ForkOver(items, (Generate(name, 2), *body), name))
            case "fork":
                bodies = tuple(draw(blocks(known, depth - 1, False))[0] for _ in range(2))
                statements.append(Fork(bodies))
            case _:
                statements.append(Write(draw(st.sampled_from(["a ", "word ", "é", "\n"]))))
    return tuple(statements), known


@st.composite
def conditions(draw: DrawFn, known: frozenset[str]) -> Condition:
    letters = draw(st.sampled_from(["aeiou", "rstlmn", LETTERS, "0123456789"]))
    return Condition(draw(st.sampled_from(sorted(known))), letters, draw(st.booleans()))


@st.composite
def flow_programs(draw: DrawFn) -> tuple[tuple[object, ...], frozenset[str]]:
    return draw(blocks(frozenset(), 3, False))


class Stopped(Exception):
    """The run of the loop around is the last one."""


def _append(s: fc.ProgramState, statement: object) -> bool:
    """What is the same in both ways; whether it was that."""
    match statement:
        case Write(text):
            s += text
        case Generate(name, max_tokens):
            s += "<" + fc.gen(name, max_tokens=max_tokens, ignore_eos=True) + ">"
        case Choose(name):
            s += "is it " + fc.select(name, CHOICES, temperature=1.0)
        case Fill(name):
            s += s.ref(name)
        case Assign(name, source):
            s[name] = s.ref(source).upper()
        case _:
            return False
    return True


def in_the_graph(s: fc.ProgramState, statements: Sequence[object]) -> None:
    for statement in statements:
        if _append(s, statement):
            continue
        match statement:
            case Loop(body, max_iters, until):
                _loop(s, body, max_iters, until)
            case Each(items, body):
                s.each(list(items), lambda s, item, body=body: _item(s, item, body))
            case Switch():
                _switch(s, statement)
            case Fork(bodies):
                group = s.fork(len(bodies))
                for child, body in zip(group, bodies, strict=True):
                    in_the_graph(child, body)
                group.join("append")
            case ForkOver(items, body, shown):
                over = s.fork(over=_list(s, items))
                over.map(lambda child, body=body: _item(child, child.item, body))
                s += "{" + fc.join("|", over.refs(shown)) + "}"


def _list(s: fc.ProgramState, items: Sequence[str]) -> fc.Ref:
    """A list that is to come, as far as the program knows."""
    s["items"] = json.dumps(list(items))
    return s.ref("items")


def _loop(
    s: fc.ProgramState, body: tuple[object, ...], max_iters: int, until: Condition | None
) -> None:
    def turn(s: fc.ProgramState) -> object:
        in_the_graph(s, body)
        if until is None:
            return None
        found = s.ref(until.name).matches(f"[{until.letters}]")
        return ~found if until.is_negated else found

    s.loop(turn, max_iters=max_iters)


def _item(s: fc.ProgramState, item: fc.Ref, body: tuple[object, ...]) -> None:
    s += "(" + item + ")"
    in_the_graph(s, body)


def _switch(s: fc.ProgramState, switch: Switch) -> None:
    def first(s: fc.ProgramState) -> None:
        in_the_graph(s, switch.first)
        if switch.stops:
            s += fc.stop_loop

    cases = {"yes": first, fc.default: lambda s: in_the_graph(s, switch.other)}
    s.switch(switch.on, cases)


def eagerly(s: fc.ProgramState, statements: Sequence[object]) -> bool:
    """Whether a stop was reached: the rest of the run goes on, it is the last one."""
    stopped = False
    for statement in statements:
        if _append(s, statement):
            for name in NAMES:
                if name in s:
                    s[name]
            continue
        match statement:
            case Loop(body, max_iters, until):
                for _ in range(max_iters):
                    if eagerly(s, body) or (until is not None and _holds(s, until)):
                        break
            case Each(items, body):
                for item in items:
                    s += "(" + item + ")"
                    if eagerly(s, body):
                        break
            case Switch():
                if s[statement.on] == "yes":
                    stopped |= eagerly(s, statement.first) or statement.stops
                else:
                    stopped |= eagerly(s, statement.other)
            case Fork(bodies):
                group = s.fork(len(bodies))
                for child, body in zip(group, bodies, strict=True):
                    eagerly(child, body)
                group.join("append")
            case ForkOver(items, body, shown):
                # The children of a list that is to come are forked off a stem of their own.
                children = s.fork(1)[0].fork(over=list(items))
                for child in children:
                    child += "(" + child.item + ")"
                    eagerly(child, body)
                s += "{" + fc.join("|", [child.ref(shown) for child in children]) + "}"
    return stopped


def _holds(s: fc.ProgramState, until: Condition) -> bool:
    found = any(letter in s[until.name] for letter in until.letters)
    return found is not until.is_negated
