"""What choosing among branches costs: in Python, which waits for them, and in the graph.

    python -m tests.bench.choices [--rounds 10] [--repeat 5] [--connect ADDRESS]

A program of so many rounds on an engine with a model without weights. In each, eight branches say
16 tokens and are rated, and the program goes on from the best. And a program that appends what its
children say, with and without waiting for each. See tests/bench/in_turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.in_turn import time_in_turn

import furcate as fc

if TYPE_CHECKING:
    from collections.abc import Sequence

    Program = fc.Function[[int], None]

WIDTH = 8


def _rated(s: fc.ProgramState) -> fc.StateGroup:
    group = s.fork(WIDTH)
    group += "say " + fc.gen("x", max_tokens=16, ignore_eos=True)
    group += " rated " + fc.select("score", ["1", "2", "3", "4", "5"])
    return group


@fc.function
def best_in_python(s: fc.ProgramState, rounds: int) -> None:
    for _ in range(rounds):
        group = _rated(s)
        s += max(group, key=lambda child: int(child["score"])).ref("x")


@fc.function(graph="require")
def best_in_the_graph(s: fc.ProgramState, rounds: int) -> None:
    for _ in range(rounds):
        s += _rated(s).best("score")[0].ref("x")


def _tips(s: fc.ProgramState, rounds: int) -> None:
    for _ in range(rounds):
        group = s.fork(WIDTH)
        group += lambda index: f"{index} " + fc.gen("x", max_tokens=4, ignore_eos=True)
        for child in group:
            s += "tip " + child["x"] + "\n"


PROGRAMS: dict[str, Program] = {
    "best, python": best_in_python,
    "best, graph": best_in_the_graph,
    "tips, waited for": fc.function(_tips, peephole=False),
    "tips, appended": fc.function(_tips),
}


def main(argv: Sequence[str] | None = None) -> None:
    time_in_turn(PROGRAMS, __doc__, 10, argv)


if __name__ == "__main__":
    main()
