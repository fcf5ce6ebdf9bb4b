"""`state.fork(over=ref)`: a child for each element of a list that is not there yet.

What is appended to the group is recorded once and runs on each child. How many there are is known
to the runtime alone, so the group has no members to take out; its variables are lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from furcate.errors import UsageError
from furcate.protocol.graph import Fork, ForkOver, Out

from ._enclosure import Enclosure
from ._location import caller_location
from ._record import check_open
from ._ref import Ref, foreign
from ._region import Region, call_body
from ._state import ProgramState

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._expr import Expr
    from ._slot import Slot

__all__ = ["DynamicGroup"]

_WHAT = "s.fork(over=ref)"


class DynamicGroup:
    """The children of `state.fork(over=ref)`, one for each element of the list that `ref` will be.

    `group += x` appends x to each child, a function is called once with the child's index by
    reference; `group.map(f)` calls `f(child)` once, with `child.item` by reference. `group.join()`
    makes lists of the children's variables; `group.refs("x")` and `group["x"]` are such a list.
    Afterwards nothing can be added.
    """

    def __init__(self, parent: ProgramState, over: Ref) -> None:
        branch, program, location = parent._branch, parent._program, caller_location()
        check_open(branch)
        if over.program is not program:
            raise foreign(over, program, "pass its value, ref.get()")
        self._parent, self._over, self._location = parent, over.slot, location
        # The children begin with what the parent says here, wherever the group ends.
        stem = branch.child(program.new_branch())
        program.record(Fork(branch.number, (stem.number,)), "fork", location)
        enclosure = Enclosure(_WHAT, location, branch.enclosure)
        self._region = Region(program, stem, program.new_branch(), enclosure)
        with self._region.entered():
            self._item = program.new_slot(f"the item of {_WHAT}", location, None)
            self._index = program.new_slot(f"the index of {_WHAT}", location, None)
        self._region.branch.item = Ref(program, self._item)
        self._lists: dict[str, Slot] | None = None
        program.open_groups.append(self._end)

    def __iadd__(self, other: Expr | str | Callable[[Ref], Expr | str]) -> Self:
        self._check_open()
        with self._region.entered():
            state = ProgramState(self._region.branch)
            if callable(other):
                other = other(Ref(self._region.program, self._index))
            if isinstance(other, list | tuple):
                raise UsageError(f"{_WHAT} has no known number of children: append one expression")
            state += other
        return self

    def map(self, function: Callable[..., object]) -> Self:
        """Calls `function(child)` or `function(child, index)` once; what it appends to the child
        runs on each."""
        self._check_open()
        with self._region.entered():
            state = ProgramState(self._region.branch)
            index = Ref(self._region.program, self._index)
            result = call_body(function, f"{_WHAT}.map", state, index)
            if not (result is None or result is state):
                raise UsageError(
                    f"the function of {_WHAT}.map() returns nothing or its child, got {result!r}"
                )
        return self

    def refs(self, name: str) -> Ref:
        """The list of the children's variable, by reference."""
        lists = self._ended()
        if name not in lists:
            known = ", ".join(map(repr, lists)) or "none"
            raise UsageError(f"no child of {_WHAT} sets {name!r}; they set: {known}")
        return Ref(self._region.program, lists[name])

    def __getitem__(self, name: str) -> Any:
        """The list of the children's variable, None for those that failed; waits for it."""
        if not isinstance(name, str):
            raise UsageError(
                f"{_WHAT} has no children that could be taken out by {name!r}: append to all of "
                f"them, or fork over a list that is known"
            )
        return self.refs(name).get()

    def join(self, mode: str = "gather") -> None:
        """Makes each variable of the children a list of the parent's, None for those that failed.
        Waits for nothing."""
        if mode not in ("gather", "gather_variable"):
            raise UsageError(
                f"{_WHAT} joins by 'gather' alone, got {mode!r}: s.each appends one after the other"
            )
        check_open(self._parent._branch)
        lists = self._ended()
        for name, slot in lists.items():
            self._parent._branch.set(name, slot)
        self._region.program.joined.add(self._region.number)
        self._region.branch.close("join()")

    def _check_open(self) -> None:
        if self._lists is not None:
            raise UsageError(
                f"{_WHAT} at {self._location} has ended, with join(), a first read or the end of "
                f"the body: add to it before"
            )

    def _ended(self) -> dict[str, Slot]:
        if self._lists is None:
            self._end()
        assert self._lists is not None
        return self._lists

    def _end(self) -> None:
        """Records the fork; nothing is added after it."""
        region, program = self._region, self._region.program
        with region.entered():
            finals = region.close()
        self._lists = {}
        outs = []
        for name, final in finals.items():
            slot = program.new_slot(f"{name!r} of {_WHAT}", self._location, None)
            slot.name, slot.is_list = name, True
            self._lists[name] = slot
            outs.append(Out(slot.value_id, (final.value_id,)))
        node = ForkOver(
            region.outer.number,
            self._over.value_id,
            region.number,
            (),
            self._item.value_id,
            self._index.value_id,
            tuple(outs),
        )
        program.record(node, "fork over", self._location, regions=(region.recorded,))
        program.open_groups.remove(self._end)
