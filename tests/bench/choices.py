"""What choosing among branches costs: in Python, which waits for them, and in the graph.

    python -m tests.bench.choices [--rounds 10] [--repeat 5] [--connect ADDRESS]

A program of so many rounds on an engine with a model without weights. In each, eight branches say
16 tokens and are rated, and the program goes on from the best. And a program that appends what its
children say, with and without waiting for each. Prints milliseconds a round and the messages of one
program. With an address the engine and the front are in processes of their own.
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


def time_round(program: Program, backend: fc.Session, rounds: int, seed: int) -> float:
    """Milliseconds a round, of one run."""
    begin = time.perf_counter()
    program.run(rounds, backend=backend, seed=seed)
    return (time.perf_counter() - begin) / rounds * 1e3


def _report(backend: fc.Session, rounds: int, repeat: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    sent: dict[str, int] = {}
    for turn in range(repeat + 1):  # the first warms up
        for place, (name, program) in enumerate(PROGRAMS.items()):
            before = backend.num_messages
            taken = time_round(program, backend, rounds, 4 * turn + place)
            sent[name] = backend.num_messages - before
            times[name] += [taken] * (turn > 0)
    for name, found in times.items():
        spread = f"{min(found):.1f} to {max(found):.1f}"
        middle = statistics.median(found)
        print(f"{name:>16}: {middle:6.1f} ms a round ({spread}), {sent[name]} messages")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--connect", help="the address of a server with a test model")
    options = parser.parse_args(argv)
    opened: Callable[[], fc.Session] = (
        (lambda: fc.connect(options.connect))
        if options.connect
        else (lambda: fc.Engine("test:context", kv_bytes="4MiB", threads=1))
    )
    with opened() as backend:
        _report(backend, options.rounds, options.repeat)


if __name__ == "__main__":
    main()
