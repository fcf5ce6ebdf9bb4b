"""Values that arrive: what is computed, called, recalled or scored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.errors import UsageError
from furcate.protocol.graph import ValueRef

from .cell import Cell, Failure, Ready
from .derived import Derived
from .let import run_let
from .pick import Pick

if TYPE_CHECKING:
    from furcate.protocol.graph import Call, Let, Recall, Score

    from .arrival import Arrival

__all__ = ["take_call", "take_let", "take_recall", "take_score"]


def take_let(at: Arrival, node: Let) -> None:
    program = at.program
    args = [at.operand(arg) for arg in node.args]
    cell = at.declare(node.value, None)
    if node.op == "pick":
        program.derive(Pick(program, cell, args))
        return

    def compute() -> Ready:
        values = [arg.copied if isinstance(arg, Cell) else arg for arg in args]
        there = [value for value in values if isinstance(value, Ready)]
        return run_let(node.op, there, program.charge)

    needs = [arg for arg in args if isinstance(arg, Cell)]
    program.derive(Derived(program, cell, needs, compute))


def take_call(at: Arrival, node: Call) -> None:
    if node.expect_s is not None and not node.expect_s >= 0:
        at.refuse(f"expect_s must be a number of seconds, got {node.expect_s!r}")
    args = tuple(map(at.operand, node.args))
    # The failure of a call is that of its value alone: the branch's text does not need it.
    at.queue(at.growing(node.branch), node, cell=at.declare(node.value, None), args=args)


def take_recall(at: Arrival, node: Recall) -> None:
    branch = at.branch(node.branch)
    cell = at.declare(node.value, None)
    if branch.session is None:
        at.refuse(f"branch {node.branch} was not opened from a session")
    try:
        at.program.resolve(cell, branch.session.recall(node))
    except UsageError as error:
        at.program.resolve(cell, Failure.of(error, at.ordinal))


def take_score(at: Arrival, node: Score) -> None:
    branch, cell, text = at.growing(node.branch), at.declare(node.value, None), node.text
    if isinstance(text, ValueRef):
        at.queue(branch, node, cell=cell, needs=(at.value(text.value),))
    else:
        at.queue(branch, node, cell=cell, text=at.text(text))
