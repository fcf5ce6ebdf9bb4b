"""What a decision costs: in Python, which waits for the value, and in the graph.

    python -m tests.bench.loops [--rounds 50] [--repeat 5] [--connect ADDRESS]

A program of so many turns, each a generation of two tokens and a decision by it, on an engine with
a model without weights: as a Python loop, and as `s.loop` with `s.switch`. See tests/bench/in_turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.in_turn import time_in_turn

import furcate as fc

if TYPE_CHECKING:
    from collections.abc import Sequence


def _think() -> fc.Expr:
    return "turn " + fc.gen("x", max_tokens=2, ignore_eos=True)


@fc.function
def in_python(s: fc.ProgramState, turns: int) -> None:
    for _ in range(turns):
        s += _think()
        s += "none\n" if s["x"] == "" else "some\n"


@fc.function(graph="require")
def in_the_graph(s: fc.ProgramState, turns: int) -> None:
    def turn(s: fc.ProgramState) -> None:
        s += _think()
        s.switch("x", {"": "none\n", fc.default: "some\n"})

    s.loop(turn, max_iters=turns)


def main(argv: Sequence[str] | None = None) -> None:
    time_in_turn({"python": in_python, "graph": in_the_graph}, __doc__, 50, argv)


if __name__ == "__main__":
    main()
