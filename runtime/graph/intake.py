"""From the nodes of a delta to entries in the queues of branches.

Checks what can be checked without running anything: references, limits, the order of things. An
error here means that client and front disagree about the program, so it refuses the whole program;
a wrong parameter of one node is that node's failure and is found when its branch gets to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.errors import CapacityError
from furcate.protocol.graph import (
    Call,
    Drop,
    Elect,
    Fill,
    Fork,
    ForkOver,
    Gen,
    Ids,
    Join,
    Let,
    Loop,
    Mark,
    Pin,
    Recall,
    Role,
    Root,
    Save,
    Score,
    Select,
    Special,
    Stop,
    Switch,
    Text,
    TextOf,
)

from .arrival import Arrival
from .branch_intake import take_elect, take_fork, take_join, take_root
from .cell import Cell
from .derived import Derived
from .flow_intake import take_flow
from .region import place
from .saving import Saving
from .value_intake import take_call, take_let, take_recall, take_score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.graph import Node

    from .arrival import Tables
    from .program import Program
    from .region import Placed
    from .scope import Scope

__all__ = ["take_nodes"]


def take_nodes(program: Program, tables: Tables, nodes: Sequence[Node]) -> None:
    """Queues the nodes. Raises UsageError, CapacityError or ModelError at the first that cannot be
    meant; nothing has run by then."""
    limits = program.setting.limits
    placed = place(nodes, program.num_nodes, limits)
    if placed and placed[-1].end > limits.nodes:
        raise CapacityError(f"a program may have {limits.nodes} nodes, this one has more")
    for each in placed:
        _take(program, tables, each, program.scope)
        program.num_nodes = each.end
        program.num_taken += 1


def _take(program: Program, tables: Tables, placed: Placed, scope: Scope) -> None:
    at, node = Arrival(program, tables, scope, placed), placed.node
    if at.scope.is_inner:
        if isinstance(node, (Root, Recall)):
            at.refuse(f"a {type(node).__name__} cannot stand in a region")
    elif at.program.is_done and not isinstance(node, (TextOf, Let, Recall, Drop)):
        at.refuse(f"a {type(node).__name__} comes after the program was done")
    elif at.ordinal == 0 and not isinstance(node, Root):
        take_root(at, Root(branch=0))  # a program's own branch needs no word
    match node:
        case Text() | Role() | Gen() | Ids() | Special() | Fill() | Select():
            _take_content(at, node)
        case Root():
            take_root(at, node)
        case Let():
            take_let(at, node)
        case Drop(branch=branch_id):
            branch = at.branch(branch_id)
            branch.is_dropped = True
            at.program.agenda.append(branch)
        case TextOf(branch=branch_id, value=value):
            at.queue(at.branch(branch_id), node, cell=at.declare(value, branch_id))
        case Fork():
            take_fork(at, node)
        case Join():
            take_join(at, node)
        case Elect():
            take_elect(at, node)
        case Call():
            take_call(at, node)
        case Save(branch=branch_id, values=values):
            cells = tuple((name, at.value(value)) for name, value in values)
            at.queue(at.growing(branch_id), Saving(node, cells))
        case Recall():
            take_recall(at, node)
        case Pin(branch=branch_id, value=value):
            at.queue(at.growing(branch_id), node, cell=at.declare(value, None))
        case Score():
            take_score(at, node)
        case Mark(branch=branch_id, value=value):
            cell = at.declare(value, branch_id) if node.edge == "end" else None
            at.queue(at.branch(branch_id), node, cell=cell)
        case Switch() | Loop() | ForkOver() | Stop():
            take_flow(at, node, lambda inner, scope: _take(program, tables, inner, scope))
        case _:
            at.refuse(f"a {type(node).__name__} is not known to this runtime")


def _take_content(at: Arrival, node: Text | Ids | Special | Role | Fill | Gen | Select) -> None:
    branch = at.growing(node.branch)
    match node:
        case Text(text=text):
            at.queue(branch, node, text=at.text(text))
        case Fill(value=value):
            at.queue(branch, node, needs=(at.value(value),))
        case Gen(constraint=index):
            constraint = None if index is None else at.constraint(index)
            cell, outs = at.declare(node.value, branch.id), tuple[Cell, ...]()
            if node.reasoning is not None:
                outs = (at.declare(node.reasoning.value, branch.id),)
            at.queue(branch, node, cell=cell, constraint=constraint, outs=outs)
            if node.stopped_by is not None:
                stop = at.declare(node.stopped_by, None)
                at.program.derive(Derived(at.program, stop, (cell,), cell.what_stopped))
        case Select(value=value):
            at.queue(branch, node, cell=at.declare(value, branch.id))
        case _:
            at.queue(branch, node)
