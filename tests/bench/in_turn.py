"""Programs of so many rounds, run in turn on an engine with a model without weights: the time a
round and the messages of one program. With an address the engine and the front are in processes of
their own."""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

import furcate as fc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Program = fc.Function[[int], None]

__all__ = ["time_in_turn"]


def time_in_turn(
    programs: Mapping[str, Program],
    description: str | None,
    rounds: int,
    argv: Sequence[str] | None,
) -> None:
    """A command: reads its arguments and prints its figures. `rounds` is the usual number."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--connect", help="the address of a server with a test model")
    options = parser.parse_args(argv)
    with _opened(options.connect) as backend:
        _report(programs, backend, options.rounds, options.repeat)


def _opened(address: str | None) -> fc.Session:
    if address is not None:
        return fc.connect(address)
    return fc.Engine("test:context", kv_bytes="4MiB", threads=1)


def _report(programs: Mapping[str, Program], backend: fc.Session, rounds: int, repeat: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in programs}
    sent: dict[str, int] = {}
    for turn in range(repeat + 1):  # the first warms up
        for place, (name, program) in enumerate(programs.items()):
            before = backend.num_messages
            taken = _time_round(program, backend, rounds, len(programs) * turn + place)
            sent[name] = backend.num_messages - before
            times[name] += [taken] * (turn > 0)
    for name, found in times.items():
        spread = f"{min(found):.0f} to {max(found):.0f}"
        middle = statistics.median(found)
        print(f"{name:>16}: {middle:6.0f} us a round ({spread}), {sent[name]} messages")


def _time_round(program: Program, backend: fc.Session, rounds: int, seed: int) -> float:
    """Microseconds a round, of one run."""
    begin = time.perf_counter()
    program.run(rounds, backend=backend, seed=seed)
    return (time.perf_counter() - begin) / rounds * 1e6
