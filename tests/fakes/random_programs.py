"""Random programs for the front, and ways to cut their recordings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from hypothesis import strategies as st
from tests.fakes.answers import ANSWERED

from furcate.protocol.graph import (
    Call,
    Drop,
    Elect,
    Fill,
    Fork,
    Gen,
    Join,
    Let,
    Mark,
    Node,
    Role,
    Root,
    Score,
    Select,
    Special,
    Text,
    TextOf,
    ValueRef,
)
from furcate.protocol.sampling import Sampling

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

__all__ = ["ELECTING", "RISKY", "cuts", "programs"]


@dataclass
class Draft:
    """A program that grows by valid nodes."""

    nodes: list[Node] = field(default_factory=lambda: [Root(0), Text(0, "x")])
    parents: dict[int, int | None] = field(default_factory=lambda: {0: None})
    dropped: set[int] = field(default_factory=set)
    open_roles: dict[int, str | None] = field(default_factory=lambda: {0: None})
    num_values: int = 0
    open_marks: list[tuple[int, int]] = field(default_factory=list)  # branch and value
    num_marks: int = 0

    def value(self) -> int:
        self.num_values += 1
        return self.num_values - 1


KINDS = ("text", "gen", "gen", "fill", "fork", "join", "select", "let", "textof", "role", "drop",
         "special", "bad", "score", "mark", "mark", "call", "checked")  # fmt: skip


# Mostly branches, some of which fail while others are on their way.
RISKY = ("gen", "gen", "fork", "fork", "bad", "text", "textof", "join", "score", "mark",
         "call", "checked")  # fmt: skip


# Which branches go on, and which are cancelled in the midst of what they do.
ELECTING = (
    "gen",
    "gen",
    "fork",
    "elect",
    "elect",
    "pick",
    "text",
    "bad",
    "drop",
    "checked",
    "fill",
)


def grow(draw: DrawFn, draft: Draft, kinds: tuple[str, ...]) -> None:
    kind = draw(st.sampled_from(kinds))
    branch = draw(st.sampled_from([b for b in draft.parents if b not in draft.dropped]))
    known = st.integers(0, max(draft.num_values - 1, 0))
    match kind:
        case "text":
            draft.nodes.append(Text(branch, draw(st.sampled_from(["", "a", "é", "long text "]))))
        case "gen" | "bad":
            wanted = Sampling(
                max_tokens=draw(st.integers(0, 3)),
                n=draw(st.sampled_from([1, 1, 2])),
                stop=draw(st.sampled_from([(), ("c",)])),
                stop_regex=draw(st.sampled_from([(), ("[b-m][0-9]?",)])),
            )
            constraint = 0 if kind == "bad" else None
            gen = Gen(branch, draft.value(), 1, wanted, constraint)
            stopped_by = draft.value() if draw(st.booleans()) else None
            draft.nodes.append(msgspec.structs.replace(gen, stopped_by=stopped_by))
        case "checked":
            gen = Gen(branch, draft.value(), 1, Sampling(max_tokens=draw(st.integers(0, 3))))
            draft.nodes.append(
                msgspec.structs.replace(gen, check=ANSWERED, retries=draw(st.integers(0, 2)))
            )
        case "call":
            arg = ValueRef(draw(known)) if draft.num_values and draw(st.booleans()) else "x"
            function = ANSWERED + draw(st.integers(0, 3))
            draft.nodes.append(Call(branch, draft.value(), function, (arg, 1)))
        case "score":
            text = draw(st.sampled_from(["", "a", "bc"]))
            ref = ValueRef(draw(known)) if draft.num_values and draw(st.booleans()) else text
            draft.nodes.append(Score(branch, draft.value(), ref))
        case "mark":
            mark(draw, draft, branch)
        case "select":
            choices = draw(st.sampled_from([("yes", "no"), ("a", "ab", "b")]))
            draft.nodes.append(Select(branch, draft.value(), 1, choices))
        case "fill" if draft.num_values:
            draft.nodes.append(Fill(branch, draw(known)))
        case "let" if draft.num_values:
            args = ("-", ValueRef(draw(known)), ValueRef(draw(known)))
            draft.nodes.append(Let(draft.value(), "concat", args))
        case "textof":
            draft.nodes.append(TextOf(branch, draft.value()))
        case "special":
            draft.nodes.append(Special(branch, "<|im_end|>"))
        case "role":
            fork_role(draw, draft, branch)
        case "fork" if len(draft.parents) < 12:
            children = tuple(len(draft.parents) + i for i in range(draw(st.integers(1, 3))))
            draft.nodes.append(Fork(branch, children))
            draft.parents.update(dict.fromkeys(children, branch))
            draft.open_roles.update(dict.fromkeys(children, draft.open_roles[branch]))
        case "join":
            children = tuple(c for c, parent in draft.parents.items() if parent == branch)
            draft.nodes.append(Join(branch, children[: draw(st.integers(0, 2))]))
        case "elect":
            elect(draw, draft, branch)
        case "pick" if draft.num_values > 2:
            args = (ValueRef(draw(known)), draw(st.integers(0, 1)), ValueRef(draw(known)), "x")
            draft.nodes.append(Let(draft.value(), "pick", args))
        case "drop" if branch != 0:
            draft.dropped.add(branch)
            draft.nodes.append(Drop(branch))


def elect(draw: DrawFn, draft: Draft, branch: int) -> None:
    """Among the children of the branch; the keys are numbers now and then."""
    live = [c for c, parent in draft.parents.items() if parent == branch and c not in draft.dropped]
    if not live or len(draft.parents) > 16:
        return
    count = draw(st.integers(1, len(live)))
    keys = []
    for _ in live[:count]:
        if draft.num_values and draw(st.booleans()):
            value = draw(st.integers(0, draft.num_values - 1))
            draft.nodes.append(
                Let(draft.value(), draw(st.sampled_from(["len", "not"])), (ValueRef(value),))
            )
        else:
            draft.nodes.append(Let(draft.value(), "eq", (draw(st.integers(0, 1)), 1)))
        keys.append(draft.num_values - 1)
    children = tuple(len(draft.parents) + i for i in range(draw(st.integers(1, count))))
    by = draw(st.sampled_from(["best", "first"]))
    draft.nodes.append(Elect(tuple(live[:count]), tuple(keys), children, draft.value(), by))
    draft.parents.update(dict.fromkeys(children, -1))  # of nobody in particular
    draft.open_roles.update(dict.fromkeys(children, draft.open_roles[live[0]]))


def mark(draw: DrawFn, draft: Draft, branch: int) -> None:
    """Begins a mark, or ends one that is open. Nothing refers to its value, which is not known
    before its end."""
    here = [value for place, value in draft.open_marks if place == branch]
    if here and draw(st.booleans()):
        value = draw(st.sampled_from(here))
        draft.open_marks.remove((branch, value))
        draft.nodes.append(Mark(branch, value, "end"))
    else:
        draft.num_marks += 1
        value = 10_000 + draft.num_marks
        draft.open_marks.append((branch, value))
        draft.nodes.append(Mark(branch, value, "begin"))


def fork_role(draw: DrawFn, draft: Draft, branch: int) -> None:
    """Begins or ends a role; a join may have changed which is open, so some of these nodes fail."""
    role = draft.open_roles[branch]
    if role is None:
        role = draw(st.sampled_from(["user", "assistant"]))
        draft.nodes.append(Role(branch, role, "begin"))
        draft.open_roles[branch] = role
    else:
        draft.nodes.append(Role(branch, role, "end"))
        draft.open_roles[branch] = None


@st.composite
def programs(draw: DrawFn, kinds: tuple[str, ...] = KINDS, least: int = 1) -> list[Node]:
    draft = Draft()
    for _ in range(draw(st.integers(least, 25))):
        grow(draw, draft, kinds)
    return draft.nodes


@st.composite
def cuts(draw: DrawFn) -> list[int]:
    """How many nodes to send at a time, in turn; and how long the engine then runs."""
    return draw(st.lists(st.integers(0, 6), min_size=1, max_size=12))
