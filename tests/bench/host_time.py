"""Where the host's time in a decode step goes, in microseconds.

    python tests/bench/host_time.py [--model test:context]... [--rows 1 8 32] [--threads N]

Greedy streams of the same length decode together; the steps of the middle half of a run count.
Prints one line of JSON for each model and number of rows: the median microseconds of a step, of
its stages, and of every method of the executor, whichever it is. A stage's figure is its own time,
without that of the stages inside it, so that the figures of a line add up to `step` but for what
medians do to sums. `host` is the step without what waits for the device or computes (`DEVICE`).

It wraps methods from outside and knows no executor: a name that is gone is left out. Each call of
a wrapped method costs the step about half a microsecond.
"""

from __future__ import annotations

import functools
import inspect
import json
import random
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if __name__ == "__main__":  # as a script: the checkout's packages come first
    ROOT = Path(__file__).resolve().parent.parent.parent
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import typer
from tests.bench.engines import TokenEngine, cool
from tests.bench.workloads import TokenRequest

from furcate.runtime.scheduler.batcher import Batcher
from furcate.runtime.scheduler.lifecycle import Lifecycle
from furcate.runtime.scheduler.plan import StepPlan
from furcate.runtime.scheduler.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["StageClock", "profile"]

STAGES = (
    (Scheduler, "step", "other"),
    (Scheduler, "_launch", "launch"),
    (Scheduler, "_ask_late_draws", "late draws"),
    (Scheduler, "_collect", "results"),
    (Lifecycle, "poll_constraints", "poll constraints"),
    (Batcher, "plan", "plan"),
    (StepPlan, "batch", "batch arrays"),
    (Scheduler, "_commit", "commit"),
    (Batcher, "retire", "retire"),
    (Scheduler, "check", "check"),
)
STEP = "other"  # the label whose outermost call is the step
DEVICE = ("model.forward", "sampler.sample", "wait", "collect")  # ends of labels
PROMPT = 64
OUTPUT = 96


class StageClock:
    """Wraps methods of classes and keeps the own time of each a step. One thread calls them."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []  # own microseconds by label
        self._own: dict[str, float] = defaultdict(float)
        self._inside: list[int] = []  # nanoseconds of the stages within each open one
        self._undo: list[tuple[type, str, object]] = []

    def wrap(self, kind: type, name: str, label: str) -> None:
        original = inspect.getattr_static(kind, name, None)
        if not inspect.isfunction(original):
            return
        self._undo.append((kind, name, original))
        setattr(kind, name, self._timed(original, label))

    def wrap_methods(self, instance: object, prefix: str) -> None:
        """Every method of the instance's class, accessors and special ones apart."""
        kind = type(instance)
        for name, member in list(vars(kind).items()):
            if inspect.isfunction(member) and not name.startswith("__"):
                self.wrap(kind, name, f"{prefix}.{name}")

    def _timed(self, method: Callable[..., object], label: str) -> Callable[..., object]:
        inside, clock = self._inside, time.perf_counter_ns

        @functools.wraps(method)
        def timed(*args: object, **kwargs: object) -> object:
            inside.append(0)
            begin = clock()
            try:
                return method(*args, **kwargs)
            finally:
                took = clock() - begin
                self._own[label] += (took - inside.pop()) / 1e3
                if inside:
                    inside[-1] += took
                if label == STEP:
                    self.steps.append(dict(self._own))
                    self._own.clear()

        return timed

    def unwrap(self) -> None:
        while self._undo:
            kind, name, original = self._undo.pop()
            setattr(kind, name, original)


def profile(engine: TokenEngine, rows: int) -> dict[str, object]:
    """The figures of a run of that many streams."""
    draw = random.Random(rows)
    size = engine.scheduler.scheduler._executor.vocab_size
    requests = [
        TokenRequest(tuple(draw.randrange(5, min(size, 250)) for _ in range(PROMPT)), OUTPUT)
        for _ in range(rows)
    ]
    cool(engine.scheduler)
    clock = StageClock()
    try:
        for kind, name, label in STAGES:
            clock.wrap(kind, name, label)
        _wrap_executor(clock, engine.scheduler.scheduler)
        engine.run(requests)
    finally:
        clock.unwrap()
    return _figures(clock.steps)


def _wrap_executor(clock: StageClock, scheduler: Scheduler) -> None:
    executor = vars(scheduler).get("_executor")
    if executor is None:
        return
    clock.wrap_methods(executor, "executor")
    for attribute, method in (("model", "forward"), ("_sampler", "sample")):
        part = getattr(executor, attribute, None)
        if part is not None:
            clock.wrap(type(part), method, f"{attribute.strip('_')}.{method}")


def _figures(steps: list[dict[str, float]]) -> dict[str, object]:
    middle = steps[len(steps) // 4 : -(len(steps) // 4) or None]
    labels = list(dict.fromkeys(label for step in middle for label in step))
    device = [label for label in labels if label.endswith(DEVICE)]
    totals = [sum(step.values()) for step in middle]
    hosts = [sum(step.values()) - sum(step.get(label, 0.0) for label in device) for step in middle]
    stages = {
        label: round(statistics.median(step.get(label, 0.0) for step in middle), 1)
        for label in labels
    }
    return {
        "steps": len(middle),
        "step": round(statistics.median(totals), 1),
        "host": round(statistics.median(hosts), 1),
        "host_share": round(sum(hosts) / sum(totals), 4),
        "device": device,
        "stages": dict(sorted(stages.items(), key=lambda item: -item[1])),
    }


def main(
    model: Annotated[list[str] | None, typer.Option(help="As for furcate serve.")] = None,
    rows: Annotated[list[int] | None, typer.Option(help="Streams at a time.")] = None,
    threads: Annotated[int | None, typer.Option(help="As for furcate serve.")] = None,
    check: Annotated[bool, typer.Option(help="With the invariants' check of each step.")] = False,
) -> None:
    """Profiles the decode steps of each model at each number of rows."""
    options: dict[str, str | int | bool] = {"check_invariants": check}
    if threads is not None:
        options["threads"] = threads
    for name in model or ["test:context", "smollm2"]:
        with TokenEngine(name, **options) as engine:
            for number in rows or [1, 8, 32]:
                profile(engine, number)  # once to warm up
                line = {"model": name, "rows": number} | profile(engine, number)
                typer.echo(json.dumps(line))


if __name__ == "__main__":
    typer.run(main)
