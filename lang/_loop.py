"""`state.loop` and `state.each`: a body that the runtime runs again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.errors import UsageError
from furcate.protocol.graph import Carry, Loop, Out

from ._record import check_open
from ._ref import Ref, foreign, let, operand
from ._region import Region, before, call_body, open_region
from ._slot import value_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._branch import Branch
    from ._slot import Slot
    from ._state import ProgramState

    MakeState = Callable[[Branch], ProgramState]

__all__ = ["MAX_ITERS", "record_each", "record_loop"]

MAX_ITERS = 100_000


@dataclass(slots=True, eq=False)
class _Given:
    """What the runtime gives a loop besides its body."""

    location: str
    max_iters: int
    over: Slot | None = None
    item: Slot | None = None
    index: Slot | None = None
    until: Slot | None = None


def record_loop(
    branch: Branch,
    body: object,
    until: Ref | Callable[[ProgramState], object] | None,
    max_iters: int,
    location: str,
    make: MakeState,
) -> None:
    check_open(branch)
    if not isinstance(max_iters, int) or not 1 <= max_iters <= MAX_ITERS or max_iters is True:
        raise UsageError(f"max_iters of s.loop must be from 1 to {MAX_ITERS}, got {max_iters!r}")
    region = open_region(branch, "s.loop", location, is_loop=True)
    given = _Given(location, max_iters)
    with region.entered():
        given.index = branch.program.new_slot("the index of s.loop", location, None)
        state = make(region.branch)
        index = Ref(branch.program, given.index)
        result = call_body(body, "s.loop", state, index)
        given.until = _until(region, state, result, until)
        finals = region.close()
    _record(region, finals, given)


def record_each(
    branch: Branch,
    items: Ref | Sequence[object],
    body: object,
    location: str,
    make: MakeState,
) -> None:
    check_open(branch)
    program = branch.program
    given = _Given(location, MAX_ITERS, over=_list(branch, items))
    region = open_region(branch, "s.each", location, is_loop=True)
    with region.entered():
        given.item = program.new_slot("the item of s.each", location, None)
        given.index = program.new_slot("the index of s.each", location, None)
        region.branch.item = Ref(program, given.item)
        state = make(region.branch)
        result = call_body(body, "s.each", state, region.branch.item, Ref(program, given.index))
        given.until = _until(region, state, result, None)
        finals = region.close(may_not_run=True)
    _record(region, finals, given)


def _until(
    region: Region,
    state: ProgramState,
    result: object,
    until: Ref | Callable[[ProgramState], object] | None,
) -> Slot | None:
    what = region.enclosure.what
    if isinstance(result, Ref):
        if until is not None:
            raise UsageError(f"{what} has a condition as until= and from its body: keep one")
        return _condition(region, result)
    if isinstance(result, bool | int | float | str):
        raise UsageError(
            f"the body of {what} returned {result!r}: a condition is a Ref, such as "
            f"s.ref('x').eq('yes')"
        )
    if until is None:
        return None
    found = until if isinstance(until, Ref) else call_body(until, f"until= of {what}", state)
    if not isinstance(found, Ref):
        raise UsageError(
            f"until= of {what} must give a Ref, such as s.ref('x').eq('yes'), got {found!r}"
        )
    return _condition(region, found)


def _condition(region: Region, ref: Ref) -> Slot:
    if ref.program is not region.program:
        raise foreign(ref, region.program, "a condition is made of values of its own program")
    return ref.slot


def _list(branch: Branch, items: Ref | Sequence[object]) -> Slot:
    program = branch.program
    if isinstance(items, Ref):
        if items.program is not program:
            raise foreign(items, program, "pass its value, ref.get()")
        return items.slot
    if not isinstance(items, list | tuple):
        raise UsageError(f"s.each takes a Ref or a list of Refs and plain values, got {items!r}")
    return let(program, "list", tuple(operand(program, item) for item in items)).slot


def _record(region: Region, finals: dict[str, Slot], given: _Given) -> None:
    """The Loop, once the region is left; what it begins with is recorded before it."""
    program, outer = region.program, region.outer
    if given.over is not None:
        for name in finals:  # it may have no run at all, and then they are what they were
            if name in outer.variables or region.parent is not None:
                region.carry(name)
    carried = []
    for name, slot in region.carried.items():
        first = before(outer, name)
        following = finals.get(name, slot)
        first_id = None if first is None else first.value_id
        carried.append(Carry(slot.value_id, first_id, following.value_id))
    outs = []
    for name, final in finals.items():
        out = program.new_slot(f"{name!r} of {region.enclosure.what}", given.location, None)
        out.name = name
        outer.set(name, out)
        outs.append(Out(out.value_id, (final.value_id,)))
    node = Loop(
        outer.number,
        (),
        given.max_iters,
        tuple(carried),
        value_id_of(given.until),
        value_id_of(given.over),
        value_id_of(given.item),
        value_id_of(given.index),
        tuple(outs),
    )
    outer.log.append(region.flow())
    program.record(node, region.enclosure.what, given.location, regions=(region.recorded,))
