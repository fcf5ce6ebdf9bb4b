"""Interprets expressions: appends the nodes that an expression stands for to a branch."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from furcate.errors import UsageError
from furcate.protocol.graph import Fill, Gen, Node, Role, Select, Special, Text, TextOf

from ._branch import Branch, RoleMark
from ._expr import Concat, Expr, Part, TextExpr
from ._gen import GenExpr
from ._location import caller_location
from ._program import program_error
from ._ref import Leaf, Ref, foreign
from ._role import RoleEdge, RoleExpr
from ._sampling import report, resolve
from ._select import SelectExpr
from ._special import SpecialExpr
from ._stop import StopLoop, record_stop
from ._thinking import reasoning_name

if TYPE_CHECKING:
    from typing import Literal

    from ._slot import Slot

__all__ = ["append", "begin_role", "check_open", "check_text", "end_role", "text_slot"]


def check_open(branch: Branch) -> None:
    """Raises where nothing can be appended any more, instead of letting the program go on."""
    program = branch.program
    _check_enclosure(branch)
    if branch.joined and branch.closed_by != "join()":  # its failures are the election's matter
        raise UsageError(f"nothing can be appended to this branch after {branch.closed_by}")
    failure = program.results.branch_failures.get(branch.number)
    if failure is not None:
        raise program_error(failure)
    if program.results.loss is not None:
        failure = program.unhandled()
        if failure is not None:
            raise program_error(failure)
    if branch.joined:
        raise UsageError(
            "this branch has been joined: append to it before join(), or fork it again"
        )
    if program.recording.done:
        raise UsageError(
            "the program has ended: nothing can be appended to its state. Put it in the function"
        )


def _check_enclosure(branch: Branch) -> None:
    current = branch.program.enclosure
    if branch.enclosure is current:
        return
    if branch.enclosure is not None and current is None:
        raise UsageError(f"a state of {branch.enclosure} ends with that body, which is recorded")
    where = "the program itself" if branch.enclosure is None else str(branch.enclosure)
    raise UsageError(
        f"inside {current} a state of {where} is appended to at {caller_location()}: use the state "
        f"that the body is given"
    )


def append(branch: Branch, expr: Expr, location: str) -> None:
    """Records `expr` on the branch."""
    match expr:
        case TextExpr(text):
            _append_text(branch, text, location)
        case Concat(parts):
            for part in parts:
                append(branch, part, location)
        case GenExpr():
            _append_gen(branch, expr, location)
        case SelectExpr():
            _append_select(branch, expr, location)
        case RoleExpr(role, body):
            begin_role(branch, role, location)
            append(branch, body, location)
            end_role(branch, role, location)
        case RoleEdge(role, "begin"):
            begin_role(branch, role, location)
        case RoleEdge(role, _):
            end_role(branch, role, location)
        case SpecialExpr(name):
            _record(branch, Special(branch.number, name), f"special {name!r}", location)
        case StopLoop():
            record_stop(branch, location)
        case Ref():
            _append_ref(branch, expr, location)
        case Part():
            expr.record(branch)
        case _:
            raise TypeError(f"{type(expr).__name__} is no expression that can be recorded")


def begin_role(branch: Branch, role: str, location: str) -> None:
    if branch.role is not None:
        raise UsageError(
            f"the role {role!r} begins inside the role {branch.role!r}: end that one first"
        )
    branch.role = role
    _role_edge(branch, role, "begin", location)


def end_role(branch: Branch, role: str, location: str) -> None:
    if branch.role != role:
        raise UsageError(f"the role {role!r} ends, but the open role is {branch.role!r}")
    branch.role = None
    _role_edge(branch, role, "end", location)


def check_text(text: str) -> None:
    """Raises UsageError for a str that is no text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"the text {text[:80]!r} holds half a surrogate pair at {error.start} and cannot be "
            f"sent: decode it with errors='replace' where it comes from"
        ) from error


def text_slot(branch: Branch, location: str) -> Slot:
    """Records the question for the branch's whole text."""
    slot = branch.program.new_slot("text", location, branch.number)
    _record(branch, TextOf(branch.number, slot.value_id), "text", location)
    return slot


def _record(branch: Branch, node: Node, label: str, location: str) -> None:
    branch.program.record(node, label, location)


def _role_edge(branch: Branch, role: str, edge: Literal["begin", "end"], location: str) -> None:
    branch.log.append(RoleMark(role, edge))
    _record(branch, Role(branch.number, role, edge), f"{role} {edge}", location)


def _append_text(branch: Branch, text: str, location: str) -> None:
    if not text:
        return
    check_text(text)
    branch.log.append(text)
    _record(branch, Text(branch.number, text), "text", location)


def _append_ref(branch: Branch, ref: Ref, location: str) -> None:
    if ref.program is not branch.program:
        if isinstance(ref, Leaf):
            _append_text(branch, str(ref), location)
            return
        raise foreign(ref, branch.program, "append its value, ref.get()")
    if ref.slot.is_list:
        raise UsageError(f"{ref!r} is a list: append ref[0], or fc.join(separator, ref)")
    if ref.slot.samples > 1:
        raise UsageError(f"{ref!r} has {ref.slot.samples} texts: choose one, such as ref[0]")
    branch.log.append(ref.slot)
    label = f"fill {ref.slot.name or ref.slot.label!s}"
    _record(branch, Fill(branch.number, ref.slot.value_id), label, location)


def _append_gen(branch: Branch, expr: GenExpr, location: str) -> None:
    program = branch.program
    branch.check_free(expr.name)
    branch.check_free(expr.save_stop)
    if expr.thinking is not None:
        branch.check_free(reasoning_name(expr.name))
    sampling = resolve(expr.sampling, program.sampling, expr.output.stops)
    label = f"gen {expr.name!r}" if expr.name is not None else "gen"
    slot = program.new_slot(label, location, branch.number, expr.output)
    slot.name, slot.samples = expr.name, sampling.n
    slot.report = report(expr.sampling, program.sampling)
    stop = None
    if expr.save_stop is not None:
        stop = program.new_slot(f"the stop of {label}", location, None)
        stop.name, stop.samples = expr.save_stop, sampling.n
    check, retries = None, 0
    if expr.checking is not None:
        expr.checking.fit(sampling)
        check = program.callables.add(expr.checking.task(slot, program.callables.told))
        retries = expr.checking.retries
    reasoning = None
    if expr.thinking is not None:
        expr.thinking.fit(sampling)
        slot.reasoning = _thought(branch, expr.name, label, location)
        reasoning = expr.thinking.node(slot.reasoning.value_id)
    node = Gen(
        branch.number,
        slot.value_id,
        _site(location, expr.name),
        sampling,
        reasoning=reasoning,
        check=check,
        retries=retries,
        stopped_by=None if stop is None else stop.value_id,
    )
    _store(branch, slot)
    if stop is not None and expr.save_stop is not None:
        branch.set(expr.save_stop, stop)
    program.record(node, label, location, expr.output.constraint)


def _thought(branch: Branch, name: str | None, label: str, location: str) -> Slot:
    """Of what is thought before an output: a variable, and no part of what the turn says."""
    slot = branch.program.new_slot(f"the reasoning of {label}", location, branch.number)
    slot.name, slot.is_output = reasoning_name(name), True
    if slot.name is not None:
        branch.set(slot.name, slot)
    return slot


def _append_select(branch: Branch, expr: SelectExpr, location: str) -> None:
    program = branch.program
    branch.check_free(expr.name)
    label = f"select {expr.name!r}" if expr.name is not None else "select"
    slot = program.new_slot(label, location, branch.number, expr.output)
    slot.name, slot.choices = expr.name, expr.choices
    node = Select(
        branch.number,
        slot.value_id,
        _site(location, expr.name),
        expr.choices,
        expr.method,
        expr.temperature,
        expr.scores,
    )
    _store(branch, slot)
    program.record(node, label, location)


def _store(branch: Branch, slot: Slot) -> None:
    slot.is_output = True
    branch.log.append(slot)
    if slot.name is not None:
        branch.set(slot.name, slot)


def _site(location: str, name: str | None) -> int:
    return zlib.crc32(f"{location}:{name}".encode(errors="replace"))
