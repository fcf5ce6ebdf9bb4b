"""`state.switch`: which body runs is decided in the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from furcate.errors import UsageError
from furcate.protocol.graph import Case, Out, Switch

from ._record import check_open
from ._ref import Ref
from ._region import Region, before, call_body, open_region
from ._slot import value_id_of
from ._stop import StopLoop, record_stop
from ._variables import ref_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._branch import Branch
    from ._slot import Slot
    from ._state import ProgramState


__all__ = ["Default", "default", "record_switch"]


class Default:
    """Key of the case of a switch that runs where no other applies."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "furcate.default"


default = Default()

Key = str | int | float | bool | Default


def record_switch(
    branch: Branch,
    on: Ref | str,
    cases: Mapping[Key, object],
    location: str,
    make: Callable[[Branch], ProgramState],
) -> None:
    """Records the switch with all its cases; `make` makes a state of a branch."""
    check_open(branch)
    program = branch.program
    value = _value(branch, on)
    regions: list[Region] = []
    closed: list[dict[str, Slot]] = []
    for key, body in _checked(cases):
        region = open_region(branch, f"s.switch, case {key!r},", location)
        with region.entered():
            if isinstance(body, StopLoop):
                record_stop(region.branch, location)
            else:
                call_body(body, "s.switch", make(region.branch))
            closed.append(region.close())
        regions.append(region)
    outs = []
    for name in dict.fromkeys(name for finals in closed for name in finals):
        old = None if all(name in finals for finals in closed) else before(branch, name)
        sources = tuple(value_id_of(finals.get(name, old)) for finals in closed)
        slot = program.new_slot(f"{name!r} of s.switch", location, None)
        slot.name = name
        branch.set(name, slot)
        outs.append(Out(slot.value_id, sources))
    whens = tuple(Case(None if isinstance(key, Default) else key) for key in cases)
    node = Switch(branch.number, value.value_id, whens, tuple(outs))
    branch.log.append(regions[0].flow())
    program.record(node, "switch", location, regions=tuple(region.recorded for region in regions))


def _value(branch: Branch, on: Ref | str) -> Slot:
    if isinstance(on, str):
        return ref_of(branch, on).slot
    if not isinstance(on, Ref) or on.program is not branch.program:
        raise UsageError(f"s.switch takes a Ref of this program or a variable's name, got {on!r}")
    return on.slot


def _checked(cases: Mapping[Key, object]) -> list[tuple[Key, object]]:
    if not isinstance(cases, Mapping) or not cases:
        raise UsageError(f"s.switch takes a dict of values and bodies, got {cases!r}")
    for key in cases:
        if not isinstance(key, str | int | float | bool | Default):
            raise UsageError(
                f"a case of s.switch is text, a number, a bool or furcate.default, got {key!r}"
            )
    return list(cases.items())
