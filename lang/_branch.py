"""A branch of a program: its variables, its open role, and what was appended to it.

Held by the state that a program works with; the program itself knows branches by number only.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import msgspec

from furcate.errors import UsageError

from ._slot import Slot

if TYPE_CHECKING:
    from ._enclosure import Enclosure
    from ._program import Program
    from ._session import Opened

__all__ = [
    "Branch",
    "Elected",
    "Entry",
    "Flow",
    "Gathered",
    "Local",
    "RoleMark",
    "Variable",
    "new_branch",
    "seen",
]


T = TypeVar("T")


class RoleMark(msgspec.Struct, frozen=True, gc=False):
    """In the log: a turn begins or ends here."""

    role: str
    edge: Literal["begin", "end"]


@dataclass(frozen=True, slots=True)
class Gathered:
    """A variable that a join has collected: one element a child, None where the child has none."""

    elements: tuple[Variable, ...]


@dataclass(frozen=True, slots=True)
class Local:
    """A variable that the program has set itself."""

    value: object


@dataclass(frozen=True, slots=True)
class Elected(Generic[T]):
    """What the candidate at that rank of an election has; `elements` are all candidates'. Which one
    it is stands in the list that `order` will be."""

    order: Slot
    rank: int
    elements: tuple[T, ...]

    @property
    def chosen(self) -> T:
        """The one, once the order is there."""
        order = self.order.data
        assert isinstance(order, list)
        index = order[self.rank]
        assert isinstance(index, int)
        return self.elements[index]


@dataclass(frozen=True, slots=True)
class Flow:
    """In the log: control flow on the branch of that number, of which only the runtime knows how it
    went. Its values are those from `first` on, before `end`."""

    branch: int
    label: str
    first: int
    end: int


Entry = str | Slot | RoleMark | Flow | Elected["list[Entry]"]
Variable = Slot | Gathered | Local | Elected["Variable"] | None


@dataclass(eq=False)
class Branch:
    """Written by the thread that runs the program's body."""

    program: Program
    number: int
    variables: dict[str, Variable] = field(default_factory=dict)
    log: list[Entry] = field(default_factory=list)
    fork_point: int = 0  # length of the log where this branch left its parent
    own: dict[str, Variable] = field(default_factory=dict)  # variables set on this branch
    role: str | None = None
    scopes: set[str] = field(default_factory=set)  # names of the var_scopes that are open
    joined: bool = False
    closed_by: str = "join()"  # what it was that ended the branch, if it is joined
    is_elected: bool = False
    lineage: tuple[int, ...] = ()  # the numbers of those it was forked off, the eldest first
    item: object = None
    session: Opened | None = None  # what the program began from
    enclosure: Enclosure | None = None  # the body of control flow that it belongs to

    def check_free(self, name: str | None) -> None:
        """Raises UsageError inside a var_scope of that name, which is about to set it."""
        if name in self.scopes:
            raise UsageError(f"{name!r} is set inside the var_scope {name!r}: use another name")

    def set(self, name: str, variable: Variable) -> None:
        self.check_free(name)
        self.variables[name] = variable
        self.own[name] = variable
        if self.program.streams:
            self.program.results.poke()

    def child(self, number: int, item: object = None) -> Branch:
        """A branch that begins with everything this one has."""
        child = new_branch(self.program, number)
        child.variables = dict(self.variables)
        child.log, child.fork_point = list(self.log), len(self.log)
        child.role, child.item, child.session = self.role, item, self.session
        child.lineage = (*self.lineage, self.number)
        self.program.family.add(number, child.lineage)
        return child

    def close(self, by: str) -> None:
        """Nothing more can be appended."""
        self.joined, self.closed_by = True, by


def seen(branch: Branch, name: str) -> Variable:
    """A variable that there is, as it is meant here: inside a body one from around it may be what
    the run before has made of it."""
    region, variable = branch.program.region, branch.variables[name]
    return variable if region is None else region.seen(name, variable)


def new_branch(program: Program, number: int) -> Branch:
    """One whose end the runtime is told of: when the last handle of it has gone."""
    branch = Branch(program, number, enclosure=program.enclosure)
    if branch.enclosure is not None:
        return branch  # the end of the region's run is the branch's
    drop = weakref.finalize(branch, program.recording.dropped.append, number)
    drop.atexit = False
    return branch
