"""Elections: which of several branches a program goes on from.

A candidate notes where it stands when it gets to the place of the Elect; the keys say who is
chosen. A child begins once both are known. Candidates that lose are cancelled, with all that was
forked off them. Does not know how keys come about.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .cell import Failure, Ready

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from furcate.protocol.graph import Elect

    from .branch import Branch, Place
    from .cell import Cell, Outcome
    from .program import Program

__all__ = ["Election", "Stance", "check_elect"]


@dataclass(slots=True, eq=False)
class Stance:
    """A candidate in an election. `place` is set when it gets there, `child` when it is chosen."""

    candidate: Branch
    place: Place | None = None
    child: Branch | None = None

    def arrive(self) -> None:
        """The candidate stands where the Elect was recorded."""
        self.place = self.candidate.here()
        self._bear()

    def choose(self, child: Branch) -> None:
        self.child = child
        self._bear()

    def _bear(self) -> None:
        if self.place is not None and self.child is not None:
            self.candidate.bear_at(self.place, self.child)


@dataclass(slots=True, eq=False)
class Election:
    """One Elect node. `order` is the cell of its value."""

    program: Program
    by: Literal["best", "first"]
    keys: Sequence[Cell]
    children: tuple[Branch, ...]
    order: Cell
    stances: list[Stance] = field(default_factory=list)
    losers: set[int] = field(default_factory=set)

    def open(self, candidates: Sequence[Branch]) -> None:
        """From here on the candidates' streams are kept for the children."""
        self.order.sources = self.keys
        for candidate in candidates:
            self.stances.append(Stance(candidate))
            candidate.elections.append(self)
        for key in self.keys:
            if key.outcome is None:
                key.waiters.append(self)
        self.program.derive(self)

    def advance(self) -> None:
        if self.order.outcome is not None:
            return
        outcomes = [key.outcome for key in self.keys]
        result = self._best(outcomes) if self.by == "best" else self._first(outcomes)
        if result is not None:
            self._decide(result)

    def _best(self, outcomes: Sequence[Outcome | None]) -> list[int] | Failure | None:
        """The greatest first; those without a number come last."""
        if any(outcome is None for outcome in outcomes):
            return None
        numbers = [_number(outcome) for outcome in outcomes]
        if all(number is None for number in numbers):
            return self._no_number(outcomes)
        ranked = sorted(
            range(len(numbers)),
            key=lambda i: (numbers[i] is None, -(numbers[i] or 0), i),
        )
        return ranked[: len(self.children)]

    def _first(self, outcomes: Sequence[Outcome | None]) -> list[int] | Failure | None:
        """In the order of the candidates; those whose key is false lose at once."""
        chosen: list[int] = []
        is_known = True
        for index, outcome in enumerate(outcomes):
            if outcome is None:
                is_known = False
            elif not _holds(outcome):
                self._lose(index)
            elif is_known:
                chosen.append(index)
                if len(chosen) == len(self.children):
                    return chosen
        return self._too_few(outcomes, len(chosen)) if is_known else None

    def _decide(self, result: list[int] | Failure) -> None:
        chosen: list[int] = []
        if isinstance(result, Failure):
            self.program.resolve(self.order, result)
            for child in self.children:
                child.be_stillborn(result.upstream())
        else:
            chosen = result
            self.program.resolve(self.order, Ready(list(chosen), None))
            for index, child in zip(chosen, self.children, strict=True):
                self.stances[index].choose(child)
        for index in range(len(self.stances)):
            if index not in chosen:
                self._lose(index)
        for stance in self.stances:
            stance.candidate.elections.remove(self)
        self.program.streams_changed = True

    def _lose(self, index: int) -> None:
        if index not in self.losers:
            self.losers.add(index)
            candidate, node = self.stances[index].candidate, self.order.ordinal
            candidate.cancel(Failure("cancelled", f"branch {candidate.id} was not chosen", node))

    def _no_number(self, outcomes: Sequence[Outcome | None]) -> Failure:
        first = outcomes[0]
        if isinstance(first, Failure):
            return first.upstream()
        shown = first.data if first is not None and first.text is None else first and first.text
        return Failure(
            "generation",
            f"no candidate has a number to be compared by; the first has {shown!r:.80}. Use a "
            "select of numbers, gen(type=int) or a number that is computed",
            self.order.ordinal,
        )

    def _too_few(self, outcomes: Sequence[Outcome | None], found: int) -> Failure:
        failure = next((each for each in outcomes if isinstance(each, Failure)), None)
        why = "" if failure is None else f"; one failed: {failure.message}"
        return Failure(
            "generation",
            f"the condition holds for {found} of {len(outcomes)} candidates, "
            f"{len(self.children)} are wanted{why}",
            self.order.ordinal,
        )


def check_elect(
    node: Elect, candidates: Sequence[Branch], refuse: Callable[[str], NoReturn]
) -> None:
    """What no client that means something sends."""
    if len(node.keys) != len(candidates):
        refuse(f"{len(candidates)} candidates have {len(node.keys)} keys")
    if not 1 <= len(node.children) <= len(candidates):
        refuse(f"{len(node.children)} of {len(candidates)} candidates cannot be chosen")
    distinct = set(candidates)
    if len(distinct) < len(candidates):
        refuse(f"the candidates {node.candidates!r} are not all different")
    if any(ancestor in distinct for each in candidates for ancestor in each.ancestors()):
        refuse(f"one of the candidates {node.candidates!r} was forked off another")


def _number(outcome: Outcome | None) -> float | int | None:
    """What a key counts; None where it has failed or is no number."""
    if not isinstance(outcome, Ready):
        return None
    if isinstance(outcome.data, bool):
        return int(outcome.data)
    if outcome.text is None:
        return None
    for read in (int, float):
        try:
            number = read(outcome.text)
        except ValueError:
            continue
        return number if number == number else None  # NaN compares with nothing
    return None


def _holds(outcome: Outcome) -> bool:
    return isinstance(outcome, Ready) and outcome.data is True
