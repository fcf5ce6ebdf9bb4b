"""What the user's functions cost: calls, and checks that accept the first output.

    python tests/bench/calls.py

On the context model, whose forwards take next to no time: what is seen is the work around them.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # as a script: the checkout's packages come first
    ROOT = Path(__file__).resolve().parent.parent.parent
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import furcate as fc

if TYPE_CHECKING:
    from collections.abc import Callable

DRAWS = 5
CALLS = 1000
PROGRAMS = 200


def increment(number: int) -> int:
    return number + 1


@fc.function
def chain(s: fc.ProgramState) -> object:
    """Each call gets what the one before has returned; nothing waits in between."""
    value: fc.Ref = s.call(increment, 0)
    for _ in range(CALLS - 1):
        value = s.call(increment, value)
    return value


@fc.function
def one_by_one(s: fc.ProgramState) -> object:
    value: object = 0
    for _ in range(CALLS):
        value = s.call(increment, value).get()
    return value


def accept(text: str) -> bool:
    return True


@fc.function
def says(s: fc.ProgramState, is_checked: bool) -> None:
    check = accept if is_checked else None
    s += "say: " + fc.gen("x", max_tokens=16, ignore_eos=True, check=check)
    s += "more: " + fc.gen("y", max_tokens=16, ignore_eos=True)


def draws(run: Callable[[], object], parts: int) -> dict[str, float]:
    """Median and extremes of the microseconds a part takes."""
    run()
    times = []
    for _ in range(DRAWS):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) / parts * 1e6)
    named = {"median": statistics.median(times), "least": min(times), "most": max(times)}
    return {name: round(value) for name, value in named.items()}


def main() -> None:
    with fc.Engine("test:context", kv_bytes="16MiB") as backend:
        for program in (chain, one_by_one):
            found = draws(lambda program=program: program.run(backend=backend), CALLS)  # type: ignore[misc]
            print(json.dumps({"calls": program.__name__, "us_a_call": found}))  # type: ignore[attr-defined]
        for is_checked in (False, True):
            items = [(is_checked,)] * PROGRAMS
            found = draws(lambda items=items: says.run_batch(items, backend=backend), PROGRAMS)  # type: ignore[misc]
            print(json.dumps({"is_checked": is_checked, "us_a_program": found}))


if __name__ == "__main__":
    main()
