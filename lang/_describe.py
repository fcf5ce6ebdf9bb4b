"""A recording in words: one line a node, what is inside a node below it, deeper."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from furcate.protocol.graph import (
    Call,
    Elect,
    Fill,
    Fork,
    ForkOver,
    Gen,
    Join,
    Let,
    Loop,
    Mark,
    Role,
    Root,
    Score,
    Select,
    Special,
    Switch,
    Text,
    TextOf,
)
from furcate.protocol.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from furcate.protocol.constraint import Constraint
    from furcate.protocol.graph import Node

    from ._recording import Recorded

__all__ = ["describe", "short"]

_TEXT_CHARS = 60
_INDENT = "  "


def describe(nodes: Iterable[Recorded]) -> list[str]:
    """The lines of all nodes, and then how much text they have and what of it is shared."""
    book = _Book()
    lines = list(_lines(nodes, 1, book))
    lines.append(f"text: {book.num_chars} characters")
    if book.shared:
        lines += ["shared prefixes:", *(f"{_INDENT}{line}" for line in book.shared)]
    return lines


class _Book:
    """Counts the characters that are known: those of generated text are not."""

    def __init__(self) -> None:
        self.num_chars = 0
        self.shared: list[str] = []
        self._lengths: dict[int, int] = {}  # by branch

    def note(self, recorded: Recorded) -> None:
        match recorded.node:
            case Text(branch, text):
                self.num_chars += len(str(text))
                self._lengths[branch] = self._lengths.get(branch, 0) + len(str(text))
            case Fork(branch, children) if len(children) > 1:
                self._share(recorded, branch, children)
            case Fork(branch, children):
                self._lengths.update(dict.fromkeys(children, self._lengths.get(branch, 0)))
            case ForkOver(branch, _, child):
                length = self._lengths[child] = self._lengths.get(branch, 0)
                where = short(recorded.location)
                self.shared.append(f"{where}  {length} characters by all elements")
            case _:
                pass

    def _share(self, recorded: Recorded, branch: int, children: tuple[int, ...]) -> None:
        length = self._lengths.get(branch, 0)
        self._lengths.update(dict.fromkeys(children, length))
        where = short(recorded.location)
        self.shared.append(f"{where}  {length} characters by {len(children)} branches")


def _lines(nodes: Iterable[Recorded], depth: int, book: _Book) -> Iterator[str]:
    for recorded in nodes:
        book.note(recorded)
        yield f"{_INDENT * depth}{short(recorded.location)}  {_line(recorded)}"
        for heading, region in zip(_headings(recorded.node), recorded.regions, strict=False):
            inner = depth + 1
            if heading:
                yield f"{_INDENT * inner}{heading}"
                inner += 1
            yield from _lines(region, inner, book)


def _checks(node: Gen) -> str:
    if node.check is None:
        return ""
    return f" checked, retries={node.retries}" if node.retries else " checked"


def _headings(node: Node) -> list[str]:
    if not isinstance(node, Switch):
        return [""]
    return ["default:" if case.when is None else f"case {case.when!r}:" for case in node.cases]


def short(location: str) -> str:
    path, _, line = location.rpartition(":")
    return f"{os.path.basename(path)}:{line}"


def _line(recorded: Recorded) -> str:
    branch = getattr(recorded.node, "branch", None)
    where = f"[{branch}] " if branch is not None else ""
    return where + (_text_line(recorded) or _flow_line(recorded) or recorded.label)


def _text_line(recorded: Recorded) -> str:
    node, label = recorded.node, recorded.label
    match node:
        case Text(_, text):
            shown = str(text)
            more = f"... ({len(shown)} characters)" if len(shown) > _TEXT_CHARS else ""
            return f"text {shown[:_TEXT_CHARS]!r}{more}"
        case Role(_, role, edge):
            return f"{role} {edge}"
        case Special(_, name):
            return f"special {name!r}"
        case Fill(_, value):
            return f"fill value {value}"
        case Gen(_, value, _, sampling):
            shape = _shape(recorded.constraint) + _checks(node)
            return f"value {value} = {label} {_settings(sampling)}{shape}".rstrip()
        case Select(_, value, _, choices, method):
            return f"value {value} = {label} {list(choices)!r} by {method}"
        case Score(_, value, text):
            scored = _operand(text) if not isinstance(text, str) else repr(text[:_TEXT_CHARS])
            return f"value {value} = {label} of {scored}"
        case Mark(_, value, "begin"):
            return f"{label} begin"
        case Mark(_, value):
            return f"value {value} = {label} end"
        case TextOf(_, value):
            return f"value {value} = text so far"
        case Call(_, value, _, args):
            return f"value {value} = {label}({', '.join(map(_operand, args))})"
        case _:
            return ""


def _flow_line(recorded: Recorded) -> str:
    node = recorded.node
    match node:
        case Root():
            return "root"
        case Fork(_, children):
            return f"fork into {list(children)!r}"
        case Join(_, children):
            return f"append {list(children)!r}"
        case Let(value, op, args):
            return f"value {value} = {op}({', '.join(map(_operand, args))})"
        case Elect(candidates, keys, children, order, by):
            return (
                f"{list(children)!r} go on from the {by} of {list(candidates)!r} by values "
                f"{list(keys)!r}, value {order} = who"
            )
        case Switch(_, on):
            return f"switch on value {on}{_outs(node)}"
        case Loop():
            until = "" if node.until is None else f", until value {node.until}"
            times = f"at most {node.max_iters} times" if node.over is None else _over(node)
            carried = "".join(f", value {each.value} carried" for each in node.carried)
            return f"loop {times}{until}{carried}{_outs(node)}"
        case ForkOver(_, _, child):
            return f"fork into {child} {_over(node)}{_outs(node)}"
        case _:
            return ""


def _over(node: Loop | ForkOver) -> str:
    return f"for each value {node.item} of value {node.over}"


def _outs(node: Switch | Loop | ForkOver) -> str:
    return "".join(f", value {out.value} comes out" for out in node.outs)


def _operand(arg: object) -> str:
    value = getattr(arg, "value", None)
    return f"value {value}" if value is not None else repr(arg)


def _settings(sampling: Sampling) -> str:
    default = Sampling()
    names = Sampling.__struct_fields__
    changed = {name: getattr(sampling, name) for name in names}
    changed = {key: value for key, value in changed.items() if value != getattr(default, key)}
    return " ".join(f"{key}={value!r}" for key, value in ({"max_tokens": 128} | changed).items())


def _shape(constraint: Constraint | None) -> str:
    if constraint is None:
        return ""
    body = constraint.body
    return f" {constraint.kind}={body if len(body) <= _TEXT_CHARS else body[:_TEXT_CHARS] + '...'}"
