"""How kernels are timed, all by the same few functions, and how far they are from the machine.

`kernels/<op>/bench.py` lists its cases: `cases(library, pool) -> list[BenchCase]`. This module
knows neither operations nor the machine: its peaks are measured by `kernels/probe/`.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BenchCase", "Peaks", "Unit", "measure", "roofline"]

Unit = Literal["int8", "q8", "bf16", "fp32"]  # q8: int8 with a scale for every 32

REPEATS = 7
SHORTEST_S = 0.02  # of one repeat: the clock and the call are then far below a percent


@dataclass(frozen=True, slots=True)
class BenchCase:
    """One call to time. `flops` and `bytes` are what it has to compute and to read, no more."""

    name: str
    run: Callable[[], None]
    flops: float
    bytes: float
    unit: Unit  # in which the products are computed


@dataclass(frozen=True, slots=True)
class Peaks:
    """What the machine does at best on some number of threads."""

    num_threads: int
    flops: dict[Unit, float]  # a second
    bandwidth: float  # bytes read a second

    def least_s(self, case: BenchCase) -> float:
        """No implementation can be faster."""
        return max(case.flops / self.flops[case.unit], case.bytes / self.bandwidth)


def measure(
    case: BenchCase,
    clock: Callable[[], float] = time.perf_counter,
    pick: Callable[[list[float]], float] = statistics.median,
) -> float:
    """Seconds of one call: the median of some repeats, after a call that warms up."""
    case.run()
    began = clock()
    case.run()
    once = max(clock() - began, 1e-9)
    calls = max(1, round(SHORTEST_S / once))
    repeats: list[float] = []
    for _ in range(REPEATS):
        began = clock()
        for _ in range(calls):
            case.run()
        repeats.append((clock() - began) / calls)
    return pick(repeats)


def roofline(case: BenchCase, seconds: float, peaks: Peaks) -> float:
    """The share of what the machine can do: 1 is the roof. More than 1 means caches, or a peak that
    was measured while others used the machine."""
    return peaks.least_s(case) / seconds
