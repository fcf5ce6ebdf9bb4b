"""`with state.user():` and its relatives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._location import caller_location
from ._record import begin_role, check_open, end_role

if TYPE_CHECKING:
    from types import TracebackType

    from ._branch import Branch

__all__ = ["RoleScope"]


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
