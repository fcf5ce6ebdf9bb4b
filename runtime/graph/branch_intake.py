"""Branches that arrive: roots, forks, joins and elections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.errors import ModelError

from .cell import Cell
from .elect import Election, check_elect
from .entry import Share

if TYPE_CHECKING:
    from furcate.protocol.graph import Elect, Fork, Join, Root

    from .arrival import Arrival
    from .sessions import Saved

__all__ = ["take_elect", "take_fork", "take_join", "take_root"]

# Steps of elected branches stand apart from those of forks, which are counted later.
ELECTED = 2**32


def take_root(at: Arrival, node: Root) -> None:
    program = at.program
    served = program.setting.ready.model
    if node.model is not None and node.model != served:
        raise ModelError(
            f"node {at.ordinal}: model {node.model!r} is not served here; "
            f"the one that is, is {served!r}"
        )
    saved: Saved | None = None
    if node.session is not None:
        tenant, now = program.options.tenant, program.streams_table.now
        saved = program.sessions.get(tenant, node.session, now)
    at.open_root(node.branch, saved)


def take_fork(at: Arrival, node: Fork) -> None:
    parent = at.growing(node.branch)
    at.program.charge_forks(len(node.children))
    children = tuple(at.new_branch(child_id, parent) for child_id in node.children)
    at.queue(parent, node, children=children)


def take_join(at: Arrival, node: Join) -> None:
    branch = at.growing(node.branch)
    if len(set(node.children)) < len(node.children):
        at.refuse(f"the children {node.children!r} of a join are not all different")
    shares = []
    for child_id in node.children:
        child = at.branch(child_id)
        if child.origin is not branch or len(child.step) > 1:
            at.refuse(f"branch {child_id} is joined into {branch.id}, not its parent")
        share = Share(Cell(at.ordinal, child_id))
        shares.append(share)
        at.queue(child, share, cell=share.cell)
    needs = tuple(share.cell for share in shares)
    at.queue(branch, node, needs=needs, shares=tuple(shares))


def take_elect(at: Arrival, node: Elect) -> None:
    candidates = [at.growing(branch_id) for branch_id in node.candidates]
    keys = [at.value(value) for value in node.keys]
    check_elect(node, candidates, at.refuse)
    at.program.charge_forks(len(node.children))
    first = candidates[0]
    step = ELECTED + first.num_elected  # nothing that depends on who is chosen
    first.num_elected += 1
    children = tuple(
        at.new_branch(child_id, first, (step, rank)) for rank, child_id in enumerate(node.children)
    )
    order = at.declare(node.order, None)
    election = Election(at.program, node.by, keys, children, order)
    election.open(candidates)
    for stance in election.stances:
        at.queue(stance.candidate, stance)
