"""`explain`: what a program would send and where it would wait, without a model.

The body runs once on a sink that sends nothing. A value that is waited for becomes a placeholder:
the first choice of a select, a plain value of a simple type, the variable's name otherwise.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from furcate.errors import Cancelled, FurcateError
from furcate.protocol.graph import Call as CallNode
from furcate.protocol.graph import (
    Fill,
    Fork,
    Gen,
    Join,
    Let,
    Role,
    Select,
    Special,
    Text,
    TextOf,
)
from furcate.protocol.message import Options, Value
from furcate.protocol.sampling import Sampling

from ._branch import Branch
from ._location import caller_location
from ._program import Program
from ._run import Call, execute
from ._state import ProgramState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.constraint import Constraint
    from furcate.protocol.message import Answer, Data

    from ._callables import Callables, Invocation
    from ._recording import Recorded
    from ._sampling import Keywords
    from ._slot import Slot

__all__ = ["explain"]

_MAX_FORCES = 200
_TEXT_CHARS = 60


class _Enough(Exception):
    """A loop whose condition no placeholder ever meets."""


@dataclass
class Sketch:
    """A Sink that keeps what it is given and answers with placeholders."""

    nodes: list[Recorded] = field(default_factory=list)
    forces: list[str] = field(default_factory=list)

    def register(self, program: Program) -> int:
        program.before_wait = self._forced
        return 0

    def flush(self, programs: Sequence[Program]) -> None:
        for program in programs:
            taken = program.recording.take(program.id)
            if taken is not None:
                self.nodes.extend(taken.recorded)

    def cancel(self, program: Program) -> None:
        pass

    def perform(self, invocation: Invocation, callables: Callables) -> None:
        raise AssertionError("nothing here asks for a call")

    def answer(self, answer: Answer) -> None:
        raise AssertionError("nothing here asks for a call")

    def _forced(self, program: Program, slot: Slot | None) -> None:
        self.flush([program])
        if slot is not None:
            where = _short(caller_location())
            self.forces.append(f"{where}  waits for {slot.label} of {_short(slot.location)}")
        if len(self.forces) > _MAX_FORCES:
            raise _Enough
        for pending in list(program.results.slots):
            if not pending.settled:
                program.receive(Value(program.id, pending.value_id, _placeholder(pending)))


def explain(call: Call, sampling: Keywords) -> str:
    """The graph and the force points as text."""
    sketch = Sketch()
    program = Program(sketch, Options(seed=0), sampling=sampling, name=call.name)
    state = ProgramState(Branch(program, 0))
    note = ""
    try:
        execute(state, call)
    except _Enough:
        note = f"stopped after {_MAX_FORCES} force points: a loop depends on a generated value"
    except (Exception, Cancelled) as error:
        note = f"stopped: with placeholders for values the body raised {error!r}"
    sketch.flush([program])
    lines = [f"program {call.name}"]
    lines += [f"  {_short(r.location)}  {_describe(r)}" for r in sketch.nodes]
    lines.append(f"force points: {len(sketch.forces) or 'none, one message and no round trip'}")
    lines += [f"  {force}" for force in sketch.forces]
    return "\n".join([*lines, note] if note else lines)


def _short(location: str) -> str:
    path, _, line = location.rpartition(":")
    return f"{os.path.basename(path)}:{line}"


def _describe(recorded: Recorded) -> str:
    node, label = recorded.node, recorded.label
    branch = getattr(node, "branch", None)
    where = f"[{branch}] " if branch is not None else ""
    match node:
        case Text(_, text):
            shown = str(text)
            more = f"... ({len(shown)} characters)" if len(shown) > _TEXT_CHARS else ""
            return f"{where}text {shown[:_TEXT_CHARS]!r}{more}"
        case Role(_, role, edge):
            return f"{where}{role} {edge}"
        case Special(_, name):
            return f"{where}special {name!r}"
        case Fill(_, value):
            return f"{where}fill value {value}"
        case Gen(_, value, _, sampling):
            shape = _shape(recorded.constraint)
            return f"{where}value {value} = {label} {_settings(sampling)}{shape}".rstrip()
        case Select(_, value, _, choices, method):
            return f"{where}value {value} = {label} {list(choices)!r} by {method}"
        case Fork(_, children):
            return f"{where}fork into {list(children)!r}"
        case Join(_, children):
            return f"{where}append {list(children)!r}"
        case Let(value, op, args):
            shown = ", ".join(_operand(arg) for arg in args)
            return f"value {value} = {op}({shown})"
        case CallNode(_, value, _, args):
            shown = ", ".join(_operand(arg) for arg in args)
            return f"{where}value {value} = {label}({shown})"
        case TextOf(_, value):
            return f"{where}value {value} = text so far"
        case _:
            return f"{where}{type(node).__name__.lower()}"


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


def _placeholder(slot: Slot) -> Data:
    if slot.choices is not None:
        return 0
    text = _placeholder_text(slot)
    return [text] * slot.samples if slot.samples > 1 else text


def _placeholder_text(slot: Slot) -> str:
    name = f"<{slot.name or slot.label}>"
    parse = slot.output.parse
    if parse is None:
        return name
    for text in ("0", "false", "[]", "{}", "null", json.dumps(name), *_options(slot)):
        try:
            parse(text)
        except FurcateError:
            continue
        return text
    return name


def _options(slot: Slot) -> list[str]:
    """The texts that an alternation allows."""
    constraint = slot.output.constraint
    if constraint is None or constraint.kind != "regex":
        return []
    return [text.replace("\\", "") for text in constraint.body[1:-1].split("|")]
