"""The constraints that the engine knows, shared by all connections that use equal ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from furcate.protocol.stream import DefineConstraint, DropConstraint

if TYPE_CHECKING:
    from furcate.protocol.constraint import Constraint
    from furcate.runtime.constrain.check import OutputCheck

    from .outbox import Outbox

__all__ = ["ConstraintPool", "SharedConstraint"]


@dataclass(slots=True, eq=False)
class SharedConstraint:
    """`id` is the engine's. `check` is for outputs that are said to be complete."""

    id: int
    constraint: Constraint
    check: OutputCheck = field(init=False)
    num_users: int = 0

    def __post_init__(self) -> None:
        from furcate.runtime.constrain.check import OutputCheck  # slow; many have no constraint

        self.check = OutputCheck(self.constraint)


class ConstraintPool:
    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._by_constraint: dict[Constraint, SharedConstraint] = {}
        self._by_id: dict[int, SharedConstraint] = {}
        self._next_id = 0

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def num_users(self) -> int:
        return sum(shared.num_users for shared in self._by_id.values())

    def acquire(self, constraint: Constraint) -> SharedConstraint:
        """The one for all who use an equal one; the engine learns of it with the first."""
        shared = self._by_constraint.get(constraint)
        if shared is None:
            shared = SharedConstraint(self._next_id, constraint)
            self._next_id += 1
            self._by_constraint[constraint] = self._by_id[shared.id] = shared
            self._outbox.ask(DefineConstraint(shared.id, constraint))
        shared.num_users += 1
        return shared

    def release(self, shared: SharedConstraint) -> None:
        shared.num_users -= 1
        if shared.num_users == 0:
            del self._by_id[shared.id], self._by_constraint[shared.constraint]
            self._outbox.ask(DropConstraint(shared.id))

    def define_all(self) -> None:
        """Tells an engine that has started anew."""
        for shared in self._by_id.values():
            self._outbox.ask(DefineConstraint(shared.id, shared.constraint))
