"""How much of a run's time the host adds to its forwards.

    python tests/bench/exposed.py [--rows 1 8 32] [--model smollm2] [--threads N ...]

Greedy streams decode together, with overlap and without; every forward that the scheduler asks for
is recorded with its draws. Then the recorded forwards run once more, back to back, with nothing
between them. *Exposed host time* is 1 - (time of the replay) / (time of the run): what scheduling,
committing and packing cost beyond what the device needs. Runs and replays alternate, medians count.
One line of JSON for each number of rows and threads.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if __name__ == "__main__":  # as a script: the checkout's packages come first
    ROOT = Path(__file__).resolve().parent.parent.parent
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import typer
from tests.bench.engines import TokenEngine, cool
from tests.bench.passing import PassingExecutor
from tests.bench.workloads import TokenRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.runtime.engine.batch import ForwardBatch
    from furcate.runtime.engine.executor import Draw, Executor, Score

__all__ = ["Recorder", "measure", "replay"]

PROMPT = 128
OUTPUT = 64
AHEAD = 2  # forwards that a replay keeps submitted


@dataclass
class Recorded:
    batch: ForwardBatch
    draws: list[Draw]
    scores: Sequence[Score]
    late: list[Draw] = field(default_factory=list)


class Recorder(PassingExecutor):
    """Keeps what it is asked for."""

    def __init__(self, inner: Executor) -> None:
        super().__init__(inner)
        self.steps: list[Recorded] = []

    def submit(
        self, batch: ForwardBatch, draws: Sequence[Draw] = (), scores: Sequence[Score] = ()
    ) -> int:
        self.steps.append(Recorded(batch, [*draws], scores))
        return super().submit(batch, draws, scores)

    def draw(self, seq: int, draws: Sequence[Draw]) -> None:
        self.steps[-1].late.extend(draws)
        super().draw(seq, draws)


def replay(executor: Executor, steps: Sequence[Recorded]) -> float:
    """Seconds that the forwards take back to back."""
    begin = time.perf_counter()
    seqs: list[int] = []
    for step in steps:
        seq = executor.submit(step.batch, step.draws, step.scores)
        if step.late:
            executor.draw(seq, step.late)
        seqs.append(seq)
        if len(seqs) > AHEAD:
            executor.collect(seqs.pop(0))
    for seq in seqs:
        executor.collect(seq)
    return time.perf_counter() - begin


def measure(engine: TokenEngine, rows: int, rounds: int = 5) -> dict[str, object]:
    """Figures with overlap and without, in turn."""
    scheduler = engine.scheduler.scheduler
    recorder = Recorder(scheduler._executor)
    scheduler._executor = recorder
    draw = random.Random(rows)
    top = min(recorder.vocab_size, 40_000)
    requests = [
        TokenRequest(tuple(draw.randrange(5, top) for _ in range(PROMPT)), OUTPUT)
        for _ in range(rows)
    ]
    exposed: dict[bool, list[float]] = {False: [], True: []}
    rates: dict[bool, list[float]] = {False: [], True: []}
    try:
        for turn in range(2 * rounds):
            overlap = bool(turn % 2)
            scheduler._num_ahead = int(overlap)
            cool(engine.scheduler)
            recorder.steps.clear()
            begin = time.perf_counter()
            outputs = engine.run(requests)
            took = time.perf_counter() - begin
            exposed[overlap].append(1 - replay(recorder.inner, recorder.steps) / took)
            rates[overlap].append(sum(map(len, outputs)) / took)
    finally:
        scheduler._executor = recorder.inner
    return {
        "rows": rows,
        **{
            name: {
                "exposed": round(statistics.median(exposed[overlap]), 4),
                "tokens_per_s": round(statistics.median(rates[overlap]), 1),
            }
            for overlap, name in ((False, "no overlap"), (True, "overlap"))
        },
    }


def main(
    rows: Annotated[list[int], typer.Option(help="Streams that decode together.")] = [1, 8, 32],  # noqa: B006
    model: Annotated[str, typer.Option(help="Model to run.")] = "smollm2",
    threads: Annotated[list[int], typer.Option(help="Threads of a forward; 0: every core.")] = [0],  # noqa: B006
) -> None:
    for count in threads:
        engine = TokenEngine(model, threads=count)
        for number in rows:
            figures = measure(engine, number)
            print(json.dumps({"model": model, "threads": count, **figures}), flush=True)


if __name__ == "__main__":
    typer.run(main)
