"""Control flow that arrives: each node of it becomes a step of its branch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.protocol.graph import ForkOver, Loop, Stop, Switch

from .fork_over import ForkOverStep
from .loop import LoopRun, LoopStep, StopStep
from .switch import SwitchStep

if TYPE_CHECKING:
    from .arrival import Arrival
    from .cell import Cell
    from .entry import Step
    from .region import Take

__all__ = ["take_flow"]


def take_flow(at: Arrival, node: Switch | Loop | ForkOver | Stop, take: Take) -> None:
    """`take` is what the nodes of a run go through."""
    branch = at.growing(node.branch)
    placed, scope = at.placed, at.scope
    if isinstance(node, Stop):
        if scope.loop is None:
            at.refuse("a Stop stands in no Loop")
        at.queue(branch, StopStep(scope.loop))
        return
    needs: tuple[Cell, ...] = ()
    step: Step
    match node:
        case Switch(on=on):
            needs = (at.value(on),)
            step = SwitchStep(node, placed, needs[0], scope, take)
        case Loop(over=over):
            needs = () if over is None else (at.value(over),)
            run = LoopRun(node, placed, scope, take)
            step = LoopStep(run, needs[0] if needs else None)
        case ForkOver(over=over):
            needs = (at.value(over),)
            step = ForkOverStep(node, placed, needs[0], scope, take)
    outs = tuple(at.declare(out.value, None) for out in node.outs)
    check_outs(at, node)
    at.queue(branch, step, needs=needs, outs=outs)


def check_outs(at: Arrival, node: Switch | Loop | ForkOver) -> None:
    num_sources = len(node.cases) if isinstance(node, Switch) else 1
    for out in node.outs:
        if len(out.sources) != num_sources:
            at.refuse(f"value {out.value} has {len(out.sources)} sources, not {num_sources}")
