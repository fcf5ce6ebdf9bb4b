"""Finds the program that ends the engine, so that the others can be run again.

Each node that runs while an engine ends counts that; a node that completes counts no more. A
program with a node that was running in two ends in a row is a suspect. One alone is the culprit.
Of several, one at a time is run again: either it gets past that node, or the engine ends a third
time and it is the culprit. Knows neither processes nor messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .program import Program
    from .stream import Node, Stream

__all__ = ["Suspects"]

CRASHES_OF_A_SUSPECT = 2


class Suspects:
    """`held` are those that wait for their turn."""

    def __init__(self) -> None:
        self.on_trial: Program | None = None
        self.held: dict[Program, None] = {}

    def engine_ended(self, streams: Iterable[tuple[Program, Stream]]) -> Program | None:
        """Counts the end against what was running; the culprit, if it is known now."""
        running = [
            (program, node)
            for program, stream in streams
            if program not in self.held and (node := stream.running) is not None
        ]
        suspects: dict[Program, None] = {}
        for program, node in running:
            node.num_crashes += 1
            if node.num_crashes >= CRASHES_OF_A_SUSPECT:
                suspects[program] = None
        culprit = self._culprit(list(suspects))
        if culprit is not None:
            _acquit(node for _, node in running)
        elif suspects:
            # Those held before keep their places; all of them wait while the first is run again.
            self.held |= suspects
            self.next_trial()
        return culprit

    def _culprit(self, suspects: Sequence[Program]) -> Program | None:
        if self.on_trial in suspects:
            return self.on_trial
        return suspects[0] if len(suspects) == 1 and self.on_trial is None else None

    @property
    def is_trial_over(self) -> bool:
        """The program on trial has got past its node, or has ended."""
        return self.on_trial is not None and not _is_suspected(self.on_trial)

    def next_trial(self) -> None:
        """Lets the next one run again that is still suspected, and all that are not."""
        self.held = {program: None for program in self.held if _is_suspected(program)}
        self.on_trial = next(iter(self.held), None)
        if self.on_trial is not None:
            del self.held[self.on_trial]


def _is_suspected(program: Program) -> bool:
    return program.is_open and any(
        node is not None and node.num_crashes >= CRASHES_OF_A_SUSPECT
        for node in (stream.running for stream in program.streams)
    )


def _acquit(nodes: Iterable[Node]) -> None:
    for node in nodes:
        node.num_crashes = 0
