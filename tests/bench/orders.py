"""What orders of waiting streams and ways of admission cost, in steps and tokens instead of time.

    python tests/bench/orders.py turns    # programs of several turns in a cache for a few of them
    python tests/bench/orders.py outputs  # outputs of varied lengths in a small cache

Models without weights on an engine stepped by hand, so that every figure is the same everywhere.
One line of JSON for each setting. `seconds` is what the steps and tokens would take on the CPU path
and on a fast device, by the costs below.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

if __name__ == "__main__":  # as a script: the checkout's packages come first
    ROOT = Path(__file__).resolve().parent.parent.parent
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import typer

from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import Append, End, Extend, Generate, NodeDone, OpenStream, StreamEnded
from furcate.runtime.config import ScheduleConfig
from furcate.runtime.testing import ScriptedModel, make_scheduler

if TYPE_CHECKING:
    from collections.abc import Callable

    from furcate.runtime.scheduler.scheduler import Scheduler

__all__ = ["outputs", "turns"]

PolicyName = Literal["program", "fcfs", "longest-prefix"]
Experiment = Literal["turns", "outputs"]
Lengths = Literal["short", "long", "two kinds", "fixed", "uniform"]

END_ID = 258
COSTS = {"cpu": (2e-3, 0.35e-3), "device": (1e-3, 0.02e-3)}  # seconds of a step and of a token
PROMPT = 40

LENGTHS: dict[Lengths, Callable[[random.Random], int]] = {
    "short": lambda draw: int(draw.lognormvariate(3.5, 0.5)),
    "long": lambda draw: int(draw.gauss(250, 60)),
    "two kinds": lambda draw: 400 if draw.random() < 0.2 else 15,
    "fixed": lambda draw: 200,
    "uniform": lambda draw: draw.randrange(1, 500),
}


def turns(policy: PolicyName, number: int = 200, num_turns: int = 6) -> dict[str, object]:
    """Programs whose host answers each output with sixty tokens, one step later."""
    config = ScheduleConfig(max_rows=16, policy=policy, budget_tokens=256)
    scheduler = make_scheduler(ScriptedModel(lambda ids: ord("a")), num_pages=512, config=config)
    draw = random.Random(1)
    left = dict.fromkeys(range(number), num_turns)

    def answer(stream: int) -> Append:
        if not left[stream]:
            return Append(stream, (End(),))
        left[stream] -= 1
        ids = tuple(draw.randrange(256) for _ in range(60))
        sampling = Sampling(max_tokens=20, temperature=0.0)
        return Append(stream, (Extend(ids), Generate(sampling, 0, site=1)))

    for stream in range(number):
        scheduler.handle([OpenStream(stream, stream), answer(stream)])
    num_steps, ends, computed = 0, 0, 0
    heard: list[int] = []
    while any(left.values()) or scheduler.has_work or heard:
        events = scheduler.step()
        scheduler.handle([answer(stream) for stream in heard])
        heard = [event.stream for event in events if isinstance(event, NodeDone)]
        over = [event for event in events if isinstance(event, StreamEnded)]
        ends += num_steps * len(over)
        computed += sum(event.usage.computed for event in over)
        num_steps += 1
    return {
        "policy": policy,
        "mean_end": round(ends / number),
        **_figures(scheduler, num_steps, computed),
    }


def outputs(lengths: Lengths, num_pages: int, number: int = 200) -> dict[str, object]:
    """Streams of one site, all there at once, that may draw 512 tokens and end much earlier."""
    draw = random.Random(3)
    wanted = [max(1, min(511, LENGTHS[lengths](draw))) for _ in range(number)]

    def follow(ids: list[int]) -> int:
        return END_ID if len(ids) - PROMPT >= wanted[ids[0] * 16 + ids[1]] else ord("a")

    config = ScheduleConfig(budget_tokens=256)
    scheduler = make_scheduler(ScriptedModel(follow), num_pages=num_pages, config=config)
    for stream in range(number):
        ids = (*divmod(stream, 16), *(draw.randrange(97, 120) for _ in range(PROMPT - 2)))
        generate = Generate(
            Sampling(max_tokens=512, temperature=0.0), 0, stop_ids=(END_ID,), site=1
        )
        scheduler.handle(
            [OpenStream(stream, stream), Append(stream, (Extend(ids), generate, End()))]
        )
    num_steps, computed = 0, 0
    while scheduler.has_work:
        ended = [event for event in scheduler.step() if isinstance(event, StreamEnded)]
        computed += sum(event.usage.computed for event in ended)
        num_steps += 1
    return {"lengths": lengths, "pages": num_pages, **_figures(scheduler, num_steps, computed)}


def _figures(scheduler: Scheduler, num_steps: int, computed: int) -> dict[str, object]:
    seconds = {
        name: round(num_steps * step + computed * token, 2) for name, (step, token) in COSTS.items()
    }
    return {
        "steps": num_steps,
        "computed": computed,
        "set_back": scheduler.batcher.retractions,
        "seconds": seconds,
    }


def main(experiment: Annotated[Experiment, typer.Argument(help="Which.")]) -> None:
    if experiment == "turns":
        for policy in get_args(PolicyName):
            print(json.dumps(turns(policy)), flush=True)
        return
    for lengths in LENGTHS:
        for num_pages in (64, 256):
            print(json.dumps(outputs(lengths, num_pages)), flush=True)


if __name__ == "__main__":
    typer.run(main)
