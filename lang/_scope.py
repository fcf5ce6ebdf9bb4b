"""`with state.user():` and `with state.var_scope("x"):`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.errors import UsageError
from furcate.protocol.graph import Mark

from ._location import caller_location
from ._record import begin_role, check_open, end_role

if TYPE_CHECKING:
    from types import TracebackType

    from ._branch import Branch
    from ._slot import Slot

__all__ = ["RoleScope", "VariableScope"]


class RoleScope:
    """`with state.user():` closes the turn however the block ends."""

    def __init__(self, branch: Branch, role: str) -> None:
        self._branch = branch
        self._role = role

    def __enter__(self) -> None:
        check_open(self._branch)
        begin_role(self._branch, self._role, caller_location())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._branch.role == self._role:
            end_role(self._branch, self._role, caller_location())


class VariableScope:
    """`with state.var_scope("x"):` makes a variable of what is appended inside, however the block
    ends. The name means it from then on."""

    def __init__(self, branch: Branch, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise UsageError(f"var_scope() takes the name of a variable, got {name!r}")
        self._branch = branch
        self._name = name
        self._slot: Slot | None = None  # of the block that is open

    def __enter__(self) -> None:
        branch, name = self._branch, self._name
        check_open(branch)
        if name in branch.scopes:
            raise UsageError(f"var_scope {name!r} is open already: end it first, or use another")
        location = caller_location()
        label = f"var_scope {name!r}"
        slot = branch.program.new_slot(label, location, None)
        branch.program.record(Mark(branch.number, slot.value_id, "begin"), label, location)
        branch.scopes.add(name)
        self._slot = slot

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        branch, slot, self._slot = self._branch, self._slot, None
        if slot is None:
            return
        branch.scopes.discard(self._name)
        slot.name = self._name
        branch.program.record(Mark(branch.number, slot.value_id, "end"), slot.label, slot.location)
        branch.set(self._name, slot)
