"""Elections: a program goes on from some of its branches, and the runtime decides which.

The branches that go on have everything that their candidate had. Which candidate that is, is known
when a value is read; nothing waits before that. What a key is made of is the group's matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar

from furcate.errors import UsageError
from furcate.protocol.graph import Elect

from ._branch import Branch, Elected, Flow, new_branch
from ._location import caller_location
from ._record import check_open

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._branch import Entry, Variable
    from ._ref import Ref
    from ._slot import Slot

__all__ = ["elect", "handled_by", "has_flow", "log_of"]

T = TypeVar("T")


def elect(
    candidates: Sequence[Branch], keys: Sequence[Ref], by: Literal["best", "first"], keep: int
) -> list[Branch]:
    """Records the election; the branches that go on, the best first."""
    program, location = candidates[0].program, caller_location()
    what = f"{by}()"
    for branch in candidates:
        check_open(branch)
        if branch.role != candidates[0].role:
            raise UsageError(f"{what} needs candidates in the same role: end the open ones")
    numbers = [program.new_branch() for _ in range(keep)]
    order = program.new_slot(by, location, numbers[0])
    order.num_elected = keep
    node = Elect(
        tuple(branch.number for branch in candidates),
        tuple(key.slot.value_id for key in keys),
        tuple(numbers),
        order.value_id,
        by,
    )
    program.record(node, by, location)
    program.joined.update(handled_by(candidates))
    program.family.elect(order, node.candidates)
    elected = [_go_on(candidates, order, rank, number) for rank, number in enumerate(numbers)]
    for branch in candidates:
        branch.close(what)
    return elected


def handled_by(candidates: Sequence[Branch]) -> set[int]:
    """The branches whose failures an election deals with: the candidates, and what only some of
    them come from."""
    lines = [(*branch.lineage, branch.number) for branch in candidates]
    shared = set(lines[0]).intersection(*lines[1:]) if len(lines) > 1 else set(lines[0][:-1])
    return {number for line in lines for number in line} - shared


def _go_on(candidates: Sequence[Branch], order: Slot, rank: int, number: int) -> Branch:
    first = candidates[0]
    branch = new_branch(first.program, number)
    branch.role, branch.session, branch.is_elected = first.role, first.session, True
    branch.lineage = _common([candidate.lineage for candidate in candidates])
    first.program.family.add(number, branch.lineage)
    for name in dict.fromkeys(name for candidate in candidates for name in candidate.variables):
        found = tuple(candidate.variables.get(name) for candidate in candidates)
        branch.variables[name] = _one_of(order, rank, found)
    own = dict.fromkeys(name for candidate in candidates for name in candidate.own)
    branch.own = {name: branch.variables[name] for name in own}
    items = tuple(candidate.item for candidate in candidates)
    branch.item = items[0] if all(i is items[0] for i in items) else Elected(order, rank, items)
    logs = [candidate.log for candidate in candidates]
    shared = len(_common(logs))
    branch.log = [*logs[0][:shared], Elected(order, rank, tuple(log[shared:] for log in logs))]
    branch.fork_point = len(branch.log)
    return branch


def _one_of(order: Slot, rank: int, found: tuple[Variable, ...]) -> Variable:
    same = all(variable is found[0] for variable in found)
    return found[0] if same else Elected(order, rank, found)


def _common(lists: Sequence[Sequence[T]]) -> tuple[T, ...]:
    """What they begin with, all of them."""
    length = 0
    for each in zip(*lists, strict=False):
        if any(item is not each[0] for item in each):
            break
        length += 1
    return tuple(lists[0][:length])


def has_flow(branch: Branch) -> bool:
    """Whether some of its text is known to the runtime alone."""
    return any(isinstance(entry, Flow) for entry in log_of(branch))


def log_of(branch: Branch) -> list[Entry]:
    """What was appended, with what the branch has from its election; waits for that."""
    todo: list[Entry] = branch.log[::-1]
    found: list[Entry] = []
    while todo:
        entry = todo.pop()
        if isinstance(entry, Elected):
            branch.program.value(entry.order)
            todo += reversed(entry.chosen)
        else:
            found.append(entry)
    return found
