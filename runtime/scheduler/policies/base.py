"""The seam of scheduling policies: what one may read of a stream, and what one does.

A policy orders the waiting streams of one priority. It does not know what is running, how much room
there is, or how long anybody may be made to wait: the queue sees to that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

__all__ = ["MakePolicy", "Policy", "Surroundings", "Waiting", "WaitingStream"]


class Waiting(Protocol):
    """A stream that waits to run. It is hashable by identity; what is said here does not change
    while it waits, unless the queue is told."""

    @property
    def id(self) -> int: ...
    @property
    def program(self) -> int: ...
    @property
    def namespace(self) -> str:
        """Whose it is."""
        ...

    @property
    def priority(self) -> int:
        """Higher goes first."""
        ...

    @property
    def arrival(self) -> int:
        """Ordinal of its opening."""
        ...

    @property
    def deadline(self) -> float | None:
        """When it must have ended, by the clock."""
        ...

    @property
    def path(self) -> int:
        """Generations to come after this one, on the longest chain that depends on it."""
        ...

    @property
    def num_waiting(self) -> int:
        """Branches that are held up for its value."""
        ...

    @property
    def gang(self) -> Hashable:
        """The same for all siblings of a fork; None where there are none."""
        ...

    @property
    def num_uncomputed(self) -> int:
        """Tokens that are known and have no KV."""
        ...


WaitingStream = TypeVar("WaitingStream", bound=Waiting)


class Policy(Protocol[WaitingStream]):
    """Costs are at most logarithmic in the number of streams, for each call and each stream that is
    taken from `ordered`."""

    def __len__(self) -> int: ...

    def add(self, stream: WaitingStream) -> None: ...

    def remove(self, stream: WaitingStream) -> None:
        """It runs now, or wants nothing any more."""
        ...

    def served(self, stream: WaitingStream, num_tokens: int) -> None:
        """So many tokens have been computed for it, whether it waits or runs."""
        ...

    def ordered(self) -> Iterator[WaitingStream]:
        """The streams, the next to run first, one at a time: removing and serving streams in
        between tells in what comes next. A stream may come twice, or after its removal."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings(Generic[WaitingStream]):
    """What policies may ask: the time, how many of a stream's tokens are cached, and how many
    seconds it needs if it starts at once."""

    now: Callable[[], float]
    cached_prefix: Callable[[WaitingStream], int]
    seconds_needed: Callable[[WaitingStream], float]


class MakePolicy(Protocol):
    """What a policy's name stands for."""

    def __call__(self, surroundings: Surroundings[WaitingStream], /) -> Policy[WaitingStream]: ...
