"""A mix of programs: chats whose users think, trees of forks, agents that wait for tools.

What is hinted is what a front knows: that recorded nodes wait for their turn, that host code holds
a handle, how long a tool usually takes, that a program has ended. It does not know when a user
writes again, nor that a user never will.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from furcate.runtime.cache import NextUse

from .trace import Hint, Next, Segment, Trace, Turn

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["generate"]

PREFILL_S = 0.00025  # for a prompt token
DECODE_S = 0.005  # for a drawn one
THINK_S = 60.0
TOOLS_S = (1.0, 5.0, 30.0)  # usual time of a call
AT_ONCE = 2  # children of a fork that run side by side

DEAD = Next(NextUse.DEAD)
IDLE = Next(NextUse.IDLE)


@dataclass(slots=True)
class Author:
    """Writes programs, one after the other."""

    rng: random.Random
    turns: list[Turn] = field(default_factory=list)
    hints: list[Hint] = field(default_factory=list)
    segments: Iterator[int] = field(default_factory=count)
    streams: Iterator[int] = field(default_factory=count)
    programs: Iterator[int] = field(default_factory=count)

    def segment(self, least: int, most: int) -> Segment:
        return Segment(next(self.segments), self.rng.randint(least, most))

    def turn(
        self,
        start: float,
        stream: int,
        program: int,
        prompt: tuple[Segment, ...],
        output: Segment,
        then: Next = DEAD,
    ) -> float:
        """Adds a turn; returns when it stops."""
        stop = stop_of(start, prompt, output)
        self.turns.append(Turn(start, stop, stream, program, prompt, output, then))
        return stop

    def chat(self, start: float, system: Segment) -> None:
        """The front hears of the user's leaving, or, for one in ten, never does."""
        stream, program, now = next(self.streams), next(self.programs), start
        prompt: tuple[Segment, ...] = (system,)
        for _ in range(self.rng.randint(2, 12)):
            prompt = (*prompt, self.segment(20, 120))
            output = self.segment(30, 200)
            now = self.turn(now, stream, program, prompt, output, IDLE)
            now += self.rng.expovariate(1 / THINK_S)
            prompt = (*prompt, output)
        if self.rng.random() > 0.1:
            self.hints.append(Hint(now, stream, DEAD))

    def agent(self, start: float, system: Segment) -> None:
        stream, program, now = next(self.streams), next(self.programs), start
        prompt: tuple[Segment, ...] = (system, self.segment(30, 200))
        num_steps = self.rng.randint(3, 10)
        for step in range(num_steps):
            usual = self.rng.choice(TOOLS_S)
            output = self.segment(40, 120)
            stop = stop_of(now, prompt, output)
            then = Next(NextUse.IDLE, stop + usual) if step < num_steps - 1 else DEAD
            self.turn(now, stream, program, prompt, output, then)
            now = stop + self.rng.expovariate(1 / usual)
            prompt = (*prompt, output, self.segment(50, 400))

    def tree(self, start: float, system: Segment) -> None:
        """A stream draws, forks, and goes on from the answers of its children, several times. Its
        children are recorded with it, so that nothing is a surprise but how long they take."""
        stream, program, now = next(self.streams), next(self.programs), start
        prompt: tuple[Segment, ...] = (system, self.segment(50, 200))
        depth = self.rng.randint(1, 3)
        for level in range(depth):
            output = self.segment(20, 100)
            stop = stop_of(now, prompt, output)
            self.turn(now, stream, program, prompt, output, Next(NextUse.SCHEDULED, stop))
            prompt = (*prompt, output)
            now, answers = self.fork(stop, stream, program, prompt)
            prompt = (*prompt, *answers) if level % 2 else (*prompt, self.segment(20, 80))
        self.turn(now, stream, program, prompt, self.segment(40, 150))

    def fork(
        self, start: float, parent: int, program: int, prompt: tuple[Segment, ...]
    ) -> tuple[float, list[Segment]]:
        """Children of a stream, a few at a time; returns when the last stops and their answers as
        the parent reads them, which are new tokens in a new place."""
        usual = 100 * DECODE_S
        lanes = [start] * AT_ONCE
        answers = []
        for left in range(self.rng.randint(2, 8) - 1, -1, -1):
            begin = min(lanes)
            output = self.segment(40, 150)
            own = (*prompt, self.segment(5, 40))
            # The parent is needed by the next child, or by its own join.
            rounds = 1 if left else 2
            after = Next(NextUse.SCHEDULED, begin + rounds * usual / AT_ONCE)
            self.hints.append(Hint(begin, parent, after))
            lanes[lanes.index(begin)] = self.turn(begin, next(self.streams), program, own, output)
            answers.append(self.segment(output.length, output.length))
        return max(lanes), answers


def generate(seed: int, num_programs: int = 400, per_second: float = 1.0) -> Trace:
    """Programs that arrive at random: four of ten chats, four trees, two agents."""
    rng = random.Random(seed)
    author = Author(rng)
    systems = {
        author.chat: [author.segment(150, 800) for _ in range(8)],
        author.tree: [author.segment(300, 1000) for _ in range(8)],
        author.agent: [author.segment(400, 1200) for _ in range(4)],
    }
    now = 0.0
    for _ in range(num_programs):
        now += rng.expovariate(per_second)
        [write] = rng.choices(list(systems), weights=[4, 4, 2])
        shared = systems[write]
        [system] = rng.choices(shared, weights=[1 / (1 + n) for n in range(len(shared))])
        write(now, system)
    return Trace(f"seed {seed}", tuple(author.turns), tuple(author.hints))


def stop_of(start: float, prompt: tuple[Segment, ...], output: Segment) -> float:
    num_tokens = sum(segment.length for segment in prompt)
    return start + num_tokens * PREFILL_S + output.length * DECODE_S
