"""`explain`: what a program would send and where it would wait, without a model.

The body runs once on a sink that sends nothing. A value that is waited for becomes a placeholder:
the first choice of a select, a plain value of a simple type, the variable's name otherwise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from furcate.errors import Cancelled, FurcateError
from furcate.protocol.message import Options, Value

from ._branch import Branch
from ._describe import describe, short
from ._location import caller_location
from ._program import Program
from ._run import Call, execute
from ._state import ProgramState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.message import Answer, Data

    from ._callables import Callables, Invocation
    from ._recording import Recorded
    from ._sampling import Keywords
    from ._slot import Slot

__all__ = ["explain"]

_MAX_FORCES = 200


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

    def cancel(self, program: Program, branch: int | None = None) -> None:
        pass

    def perform(self, invocation: Invocation, callables: Callables) -> None:
        raise AssertionError("nothing here asks for a call")

    def answer(self, answer: Answer) -> None:
        raise AssertionError("nothing here asks for a call")

    def _forced(self, program: Program, slot: Slot | None) -> None:
        self.flush([program])
        if slot is not None:
            where = short(caller_location())
            self.forces.append(f"{where}  waits for {slot.label} of {short(slot.location)}")
        if len(self.forces) > _MAX_FORCES:
            raise _Enough
        for pending in list(program.results.slots):
            if not pending.settled and pending.enclosure is None:
                program.receive(Value(program.id, pending.value_id, _placeholder(pending)))


def explain(call: Call, sampling: Keywords) -> str:
    """The graph and the force points as text."""
    sketch = Sketch()
    program = Program(sketch, Options(seed=0), sampling=sampling, name=call.name)
    program.requires_graph = call.requires_graph
    state = ProgramState(Branch(program, 0))
    note = ""
    try:
        execute(state, call)
    except _Enough:
        note = f"stopped after {_MAX_FORCES} force points: a loop depends on a generated value"
    except (Exception, Cancelled) as error:
        note = f"stopped: with placeholders for values the body raised {error!r}"
    sketch.flush([program])
    lines = [f"program {call.name}", *describe(sketch.nodes)]
    lines.append(f"force points: {len(sketch.forces) or 'none, one message and no round trip'}")
    lines += [f"  {force}" for force in sketch.forces]
    return "\n".join([*lines, note] if note else lines)


def _placeholder(slot: Slot) -> Data:
    if slot.choices is not None:
        return 0
    if slot.num_elected:
        return list(range(slot.num_elected))
    if slot.is_list:
        return []
    text = _placeholder_text(slot)
    texts: Data = [text for _ in range(slot.samples)]
    return texts if slot.samples > 1 else text


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
