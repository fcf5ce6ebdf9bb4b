"""What a decision costs: in Python, which waits for the value, and in the graph.

    python -m tests.bench.loops [--turns 50] [--repeat 5] [--connect ADDRESS]

A program of so many turns, each a generation of two tokens and a decision by it, on an engine with
a model without weights: as a Python loop, and as `s.loop` with `s.switch`, in turn. Prints
microseconds a turn and the messages of one program. With an address the engine and the front are in
processes of their own.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

import furcate as fc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Program = fc.Function[[int], None]


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


def time_turn(program: Program, backend: fc.Session, turns: int, seed: int) -> float:
    """Microseconds a turn, of one run."""
    begin = time.perf_counter()
    program.run(turns, backend=backend, seed=seed)
    return (time.perf_counter() - begin) / turns * 1e6


def _report(backend: fc.Session, turns: int, repeat: int) -> None:
    programs = {"python": in_python, "graph": in_the_graph}
    times: dict[str, list[float]] = {name: [] for name in programs}
    sent: dict[str, int] = {}
    for round_ in range(repeat + 1):  # the first warms up
        for place, (name, program) in enumerate(programs.items()):
            before = backend.num_messages
            taken = time_turn(program, backend, turns, 2 * round_ + place)
            sent[name] = backend.num_messages - before
            times[name] += [taken] * (round_ > 0)
    for name, found in times.items():
        spread = f"{min(found):.0f} to {max(found):.0f}"
        middle = statistics.median(found)
        print(f"{name:>7}: {middle:6.0f} us a turn ({spread}), {sent[name]} messages")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=50)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--connect", help="the address of a server with a test model")
    options = parser.parse_args(argv)
    opened: Callable[[], fc.Session] = (
        (lambda: fc.connect(options.connect))
        if options.connect
        else (lambda: fc.Engine("test:context", kv_bytes="4MiB", threads=1))
    )
    with opened() as backend:
        _report(backend, options.turns, options.repeat)


if __name__ == "__main__":
    main()
