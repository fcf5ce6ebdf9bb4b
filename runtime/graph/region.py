"""Regions: lists of nodes inside a node that run when it is known that they are to run.

A node with regions is placed once, when it arrives: from then on each node inside has its ordinal.
A run of a region takes its nodes anew, in a scope of its own, as if they arrived now; those of the
branch that the region runs on come before everything that the branch has queued already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from furcate.errors import CapacityError
from furcate.protocol.graph import ForkOver, Gen, Loop, Select, Switch

from .entry import Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from furcate.protocol.graph import Node

    from .branch import Branch
    from .entry import Entry
    from .limits import Limits
    from .scope import Scope

__all__ = ["Placed", "Region", "RegionStep", "Take", "count_nodes", "place", "run_region"]


@dataclass(frozen=True, slots=True)
class Region:
    """`num_generations`: about how many one run of it asks for."""

    nodes: tuple[Placed, ...]
    num_generations: int


class Placed(msgspec.Struct, frozen=True, eq=False):
    """A node with its ordinal; `end` is the ordinal of the node after it and all inside it."""

    node: Node
    ordinal: int
    end: int
    regions: tuple[Region, ...] = ()

    @property
    def num_generations(self) -> int:
        if isinstance(self.node, (Gen, Select)):
            return 1
        return max((region.num_generations for region in self.regions), default=0)


class RegionStep(Step):
    """A Step that runs regions of the node that `placed` has."""

    __slots__ = ()

    placed: Placed

    @property
    def num_generations(self) -> int:
        return self.placed.num_generations


Take = Callable[[Placed, "Scope"], None]


def place(nodes: Iterable[Node], first: int, limits: Limits, depth: int = 0) -> list[Placed]:
    """Gives ordinals from `first` on. Raises CapacityError for regions that are too deep."""
    if depth > limits.region_depth:
        raise CapacityError(
            f"node {first}: regions may be {limits.region_depth} deep, these are deeper; move the "
            "inner ones out"
        )
    placed: list[Placed] = []
    for node in nodes:
        start, regions = first + 1, []
        for inner in _regions_of(node):
            contents = place(inner, start, limits, depth + 1)
            start = contents[-1].end if contents else start
            regions.append(Region(tuple(contents), sum(each.num_generations for each in contents)))
        placed.append(Placed(node, first, start, tuple(regions)))
        first = start
    return placed


def count_nodes(node: Node) -> int:
    """The node and all inside it."""
    return 1 + sum(count_nodes(inner) for region in _regions_of(node) for inner in region)


def _regions_of(node: Node) -> Sequence[Sequence[Node]]:
    match node:
        case Switch(cases=cases):
            return [case.nodes for case in cases]
        case Loop(nodes=nodes) | ForkOver(nodes=nodes):
            return [nodes]
        case _:
            return ()


def run_region(
    region: Region, scope: Scope, branch: Branch, take: Take, then: Entry | None = None
) -> None:
    """Queues one run of the region on `branch`, and behind it `then`."""
    branch.program.charge_nodes(len(region.nodes))
    rest, branch.queue = branch.queue, deque()
    try:
        for placed in region.nodes:
            take(placed, scope)
        if then is not None:
            branch.queue.append(then)
    finally:
        rest.extendleft(reversed(branch.queue))
        branch.queue = rest
    for inner in scope.branches.values():
        if inner is not branch:  # no node outside can name it
            inner.is_dropped = True
            branch.program.agenda.append(inner)
