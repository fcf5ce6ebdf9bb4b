"""The constraints that the engine knows, shared by all connections that use equal ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.protocol.stream import DefineConstraint, DropConstraint

if TYPE_CHECKING:
    from furcate.protocol.constraint import Constraint

    from .outbox import Outbox

__all__ = ["ConstraintPool"]


@dataclass(slots=True)
class Shared:
    id: int
    constraint: Constraint
    num_users: int = 0


class ConstraintPool:
    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._by_constraint: dict[Constraint, Shared] = {}
        self._by_id: dict[int, Shared] = {}
        self._next_id = 0

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def num_users(self) -> int:
        return sum(shared.num_users for shared in self._by_id.values())

    def acquire(self, constraint: Constraint) -> int:
        """Its id in the engine, which learns of it with the first user."""
        shared = self._by_constraint.get(constraint)
        if shared is None:
            shared = Shared(self._next_id, constraint)
            self._next_id += 1
            self._by_constraint[constraint] = self._by_id[shared.id] = shared
            self._outbox.ask(DefineConstraint(shared.id, constraint))
        shared.num_users += 1
        return shared.id

    def release(self, constraint_id: int) -> None:
        shared = self._by_id[constraint_id]
        shared.num_users -= 1
        if shared.num_users == 0:
            del self._by_id[constraint_id], self._by_constraint[shared.constraint]
            self._outbox.ask(DropConstraint(constraint_id))

    def define_all(self) -> None:
        """Tells an engine that has started anew."""
        for shared in self._by_id.values():
            self._outbox.ask(DefineConstraint(shared.id, shared.constraint))
