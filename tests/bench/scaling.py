"""Whether a step costs more where more streams wait.

    python tests/bench/scaling.py [--waiting 10 100 1000 10000] [--policy program] [--rounds 5]

A full batch of streams decodes on a model that says "a" to everything; whenever one ends it comes
back as a new stream of another program, so that the number of those who wait stays what it is. What
is timed is the scheduler: the steps, and taking up the new streams, without the executor's own
time. Rounds of each number alternate in one process, and the figure of each is the median of its
rounds. One line of JSON for each number and policy, with the ratio to the first number; the target
is at most 1.3 for all.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

if __name__ == "__main__":  # as a script: the checkout's packages come first
    ROOT = Path(__file__).resolve().parent.parent.parent
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import typer
from tests.bench.passing import PassingExecutor

from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import Append, End, Extend, Generate, OpenStream, StreamEnded
from furcate.runtime.config import ScheduleConfig
from furcate.runtime.scheduler.policies import POLICIES
from furcate.runtime.testing import make_scheduler, model_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.stream import EngineRequest
    from furcate.runtime.engine.batch import ForwardBatch
    from furcate.runtime.engine.executor import Draw, Executor, Score, StepResult

__all__ = ["Crowd", "measure"]

PolicyName = Literal["program", "fcfs", "longest-prefix"]

ROWS = 16
PROMPT = 48
OUTPUT = 24
STEPS = 200  # of a round
WARM_UP = 100


class TimedExecutor(PassingExecutor):
    """Adds up the time that the one inside takes."""

    def __init__(self, inner: Executor) -> None:
        super().__init__(inner)
        self.seconds = 0.0

    def submit(
        self, batch: ForwardBatch, draws: Sequence[Draw] = (), scores: Sequence[Score] = ()
    ) -> int:
        begin = time.perf_counter()
        seq = super().submit(batch, draws, scores)
        self.seconds += time.perf_counter() - begin
        return seq

    def draw(self, seq: int, draws: Sequence[Draw]) -> None:
        begin = time.perf_counter()
        super().draw(seq, draws)
        self.seconds += time.perf_counter() - begin

    def collect(self, seq: int) -> StepResult:
        begin = time.perf_counter()
        result = super().collect(seq)
        self.seconds += time.perf_counter() - begin
        return result


class Crowd:
    """A scheduler with a full batch and a number of streams that wait, kept so."""

    def __init__(self, num_waiting: int, policy: PolicyName) -> None:
        config = ScheduleConfig(max_rows=ROWS, policy=policy)
        self._scheduler = make_scheduler(model_named("endless"), num_pages=2048, config=config)
        self._executor = TimedExecutor(self._scheduler._executor)
        self._scheduler._executor = self._executor
        self._num_streams = 0
        self._scheduler.handle([m for _ in range(num_waiting + ROWS) for m in self._stream()])
        self._run(WARM_UP)

    def _stream(self) -> list[EngineRequest]:
        """One of forty tenants, with a prompt whose first half others have too."""
        self._num_streams += 1
        number = self._num_streams
        shared = [65 + number % 7] * (PROMPT // 2)
        own = [97 + number // 26**place % 26 for place in range(PROMPT // 2)]
        sampling = Sampling(max_tokens=OUTPUT, temperature=0.0)
        nodes = (Extend((*shared, *own)), Generate(sampling, seed=0, site=1), End())
        opening = OpenStream(number, number, namespace=f"tenant {number % 40}")
        return [opening, Append(number, nodes)]

    def _run(self, num_steps: int) -> None:
        for _ in range(num_steps):
            events = self._scheduler.step()
            for event in events:
                if isinstance(event, StreamEnded):
                    assert event.code is None, event
                    self._scheduler.handle(self._stream())

    def round(self) -> float:
        """Seconds of the scheduler a step."""
        self._executor.seconds = 0.0
        begin = time.perf_counter()
        self._run(STEPS)
        return (time.perf_counter() - begin - self._executor.seconds) / STEPS

    def close(self) -> None:
        self._scheduler.close()


def measure(numbers: Sequence[int], policy: PolicyName, rounds: int = 5) -> list[dict[str, object]]:
    """Figures for each number of waiting streams, by rounds in turn."""
    crowds = [Crowd(number, policy) for number in numbers]
    taken = [[crowd.round() for crowd in crowds] for _ in range(rounds)]
    for crowd in crowds:
        crowd.close()
    medians = [statistics.median(times) for times in zip(*taken, strict=True)]
    return [
        {
            "waiting": number,
            "policy": policy,
            "us_per_step": round(median * 1e6, 1),
            "ratio": round(median / medians[0], 3),
        }
        for number, median in zip(numbers, medians, strict=True)
    ]


def main(
    waiting: Annotated[list[int], typer.Option(help="Streams that wait.")] = [  # noqa: B006
        10,
        100,
        1000,
        10_000,
    ],
    policy: Annotated[list[str], typer.Option(help="Policies.")] = list(POLICIES),  # noqa: B006
    rounds: Annotated[int, typer.Option(help="Rounds of each number.")] = 5,
) -> None:
    for name in policy:
        for figures in measure(waiting, cast("PolicyName", name), rounds):
            print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    typer.run(main)
