"""`make soak`: many small programs on the context model; nothing may be left of them.

    python tests/bench/soak.py [--programs 20000] [--seconds 600]

After every round the engine is idle and its cache's books must close: no lease, no private page, no
stream, and pages that add up. Over the rounds, the process's anonymous memory may not grow by more
than MAX_SLOPE. The exit status is not 0 where one of this fails.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

if __name__ == "__main__":  # as a script: the checkout's packages come first
    ROOT = Path(__file__).resolve().parent.parent.parent
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import typer
from tests.bench.engines import ProgramEngine

import furcate as fc

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Leak", "Round", "run_rounds", "slope"]

A_ROUND = 500
KV_BYTES = 256 * 1024  # 16,384 tokens of the context model: every round evicts
MAX_SLOPE = 100 * 1024  # bytes a thousand programs
WARM_UP = 0.25  # of the rounds: caches and arenas fill


class Leak(Exception):
    """Something is left of programs that are over."""


@dataclass(frozen=True, slots=True)
class Round:
    """After `num_programs` programs in all."""

    num_programs: int
    anonymous_bytes: int
    num_threads: int
    num_files: int


@fc.function
def tiny(s: fc.ProgramState, number: int) -> object:
    """One of a few kinds of small program, some of which fail or are given up."""
    s += f"Number {number}: "
    match number % 5:
        case 0:
            s += fc.gen("word", max_tokens=8)
        case 1:
            s += fc.select("choice", ["yes", "no", "yes and no"])
        case 2:
            s += fc.gen("digits", regex="[0-9]{1,4}", max_tokens=8)
        case 3:
            forks = s.fork(3)
            forks += fc.gen("part", max_tokens=4)
            forks.join()
            s += " then " + fc.gen("end", max_tokens=4)
        case _ if number % 25 == 4:
            s += fc.gen("cut", type=int, max_tokens=0)  # no room for a number: fails
        case _:
            s += fc.gen("given up", max_tokens=200, ignore_eos=True)
            s.cancel()
    return None


def run_rounds(num_programs: int, seconds: float, session: ProgramEngine) -> list[Round]:
    """Until the programs or the seconds are spent, at least one round; raises Leak."""
    deadline_s = time.monotonic() + seconds
    rounds: list[Round] = []
    first = 0
    while first < num_programs and (not rounds or time.monotonic() < deadline_s):
        count = min(A_ROUND, num_programs - first)
        items = [(number,) for number in range(first, first + count)]
        for state in tiny.run_batch(items, on_error="return", backend=session, seed=first):
            _ = state.ok
        first += count
        del state
        rounds.append(_take_stock(session, first))
    return rounds


def _take_stock(session: ProgramEngine, num_programs: int) -> Round:
    session.wait_until_idle()
    session.tape.clear()
    gc.collect()
    scheduler = session.scheduler.scheduler
    scheduler.check()
    stats = scheduler.batcher.cache.stats()
    classes = ("free", "fenced", "tree_unlocked", "tree_locked", "private")
    pages = {name: int(getattr(stats, f"{name}_pages")) for name in classes}
    left: dict[str, Any] = {
        "leases": stats.leases,
        "streams": len(scheduler.lifecycle.streams),
        "waiting streams": len(scheduler.batcher.waiting),
        "expected streams": scheduler.batcher.prospects.num_streams,
        "private pages": stats.private_pages,
        "fenced pages": stats.fenced_pages,
        "locked pages": stats.tree_locked_pages,
        "lost pages": stats.total_pages - sum(pages.values()),
    }
    if any(left.values()):
        raise Leak(f"after {num_programs} programs: {left}")
    return Round(
        num_programs,
        anonymous_bytes(),
        threading.active_count(),
        len(os.listdir("/proc/self/fd")),
    )


def anonymous_bytes() -> int:
    """What this process holds in memory of its own."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no line RssAnon: it takes Linux 4.5 or later")


def slope(rounds: Sequence[Round]) -> float:
    """Bytes a thousand programs, by least squares over the rounds after the warm-up."""
    later = rounds[int(len(rounds) * WARM_UP) :]
    mean_x = sum(r.num_programs for r in later) / len(later)
    mean_y = sum(r.anonymous_bytes for r in later) / len(later)
    spread = sum((r.num_programs - mean_x) ** 2 for r in later)
    both = sum((r.num_programs - mean_x) * (r.anonymous_bytes - mean_y) for r in later)
    return 1_000 * both / spread if spread else 0.0


def main(
    programs: Annotated[int, typer.Option(min=1, help="How many to run.")] = 20_000,
    seconds: Annotated[float, typer.Option(min=0, help="Begin no round after that.")] = 3_600.0,
) -> None:
    """Runs small programs and looks for what they leave behind."""
    started_s = time.monotonic()
    try:
        with ProgramEngine("test:context", kv_bytes=KV_BYTES) as session:
            rounds = run_rounds(programs, seconds, session)
            stats = session.scheduler.scheduler.batcher.cache.stats()
    except Leak as leak:
        typer.echo(f"soak: {leak}", err=True)
        raise typer.Exit(1) from None
    grown = slope(rounds)
    report = {
        "first": asdict(rounds[0]),
        "last": asdict(rounds[-1]),
        "bytes_a_thousand_programs": round(grown),
        "evicted_tokens": stats.evicted_tokens,
        "seconds": round(time.monotonic() - started_s, 1),
    }
    typer.echo(json.dumps(report))
    if len(rounds) > 8 and grown > MAX_SLOPE:
        typer.echo(f"soak: memory grows by {grown:.0f} bytes a thousand programs", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
