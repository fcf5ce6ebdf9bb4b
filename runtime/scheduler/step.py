"""One step: the forward that was planned, the rows of streams in it, and how far it has got.

Knows which tokens of which streams a forward computes; decides nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.runtime.cache.node import Node

    from .branches import ChoiceBranches
    from .generation import Generation
    from .plan import StepPlan
    from .stream import Stream

__all__ = ["Flights", "LaunchLog", "NoLog", "Step", "StreamRow"]


@dataclass(slots=True, eq=False)
class StreamRow:
    """A stream's part of step `step`: positions `begin` to `end`. Its logits, the last `num_logits`
    of them, begin at `logit`. A row of no positions reads the logits of another stream's row, whose
    tokens up to there are the same.

    `draw` is the ordinal among the step's draws of the one that gives the token at `end`, made for
    `generation`; None while there is none. A row `is_void` once its stream has gone another way:
    what it computed is nobody's.
    """

    stream: Stream
    step: int
    begin: int
    end: int
    logit: int
    num_logits: int
    generation: Generation | None = None
    draw: int | None = None
    is_void: bool = False
    first_score: int = 0  # of the step's; those after it are its own
    branches: ChoiceBranches | None = None
    is_short: bool = False  # there were no pages for its choices
    is_hopeless: bool = False  # nor would there be if nobody else held anything

    @property
    def num_computed(self) -> int:
        """Tokens that the forward computes for it, those of its choices included."""
        count = self.end - self.begin
        return count if self.branches is None else count + self.branches.num_tokens


@dataclass(slots=True)
class Step:
    """`is_calm`: it is planned with no forward in flight. `ends` are its rows that end where a node
    of the tree does. `seq` is its forward's number with the executor, `num_draws` how many tokens
    that draws."""

    plan: StepPlan
    is_calm: bool
    rows: list[StreamRow] = field(default_factory=list)
    ends: dict[Node, StreamRow] = field(default_factory=dict)
    seq: int = 0
    num_draws: int = 0
    is_complete: bool = False  # all draws have been asked for


class LaunchLog(Protocol):
    """Keeps, for others, which streams are in forwards that have not ended."""

    def launched(self, step: int, streams: Sequence[int]) -> None:
        """Their forward is about to begin."""
        ...

    def landed(self, step: int) -> None: ...

    def close(self) -> None: ...


class NoLog:
    """Nobody wants to know."""

    def launched(self, step: int, streams: Sequence[int]) -> None:
        pass

    def landed(self, step: int) -> None:
        pass

    def close(self) -> None:
        pass


class Flights:
    """The steps that are launched and not collected yet, oldest first: two at most."""

    def __init__(self) -> None:
        self._steps: deque[Step] = deque()

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def only(self) -> Step | None:
        """The step in flight, where there is exactly one."""
        return self._steps[0] if len(self._steps) == 1 else None

    def add(self, step: Step) -> None:
        self._steps.append(step)

    def take(self) -> Step:
        return self._steps.popleft()

    def take_all(self) -> list[Step]:
        steps = list(self._steps)
        self._steps.clear()
        return steps
