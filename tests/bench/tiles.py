"""Lower tiles in products of few rows: decode steps with and without them, in one run.

    python tests/bench/tiles.py [--threads N] [--repeat N]

Prints one line of JSON for each number of rows: the median milliseconds of a forward of the
embedded model with full tiles only, with the lower ones, and the ratio. The logits are compared
first.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import typer

from furcate.kernels.linear import TILE_ROWS, PackedWeight
from furcate.runtime.model.catalog import ensure
from furcate.runtime.model.load import load_model
from furcate.runtime.scheduler.plan import StepPlan

if TYPE_CHECKING:
    from furcate.runtime.engine.batch import ForwardBatch
    from furcate.runtime.model.base import LanguageModel

CONTEXT = 200
PAGE_SIZE = 16
PAGES = -(-(CONTEXT + 1) // PAGE_SIZE)


def batch(rows: int) -> ForwardBatch:
    plan = StepPlan(step=1, budget_tokens=rows)
    for row in range(rows):
        table = np.arange(row * PAGES, (row + 1) * PAGES, dtype=np.int32)
        plan.add_row([5 + row], CONTEXT, table, 1)
    return plan.batch()


def weights_of(model: object, seen: set[int] | None = None) -> list[PackedWeight]:
    """Every packed weight that can be reached from the model's attributes."""
    seen = set() if seen is None else seen
    if id(model) in seen or isinstance(model, torch.Tensor | str | bytes | Path):
        return []
    seen.add(id(model))
    if isinstance(model, PackedWeight):
        return [model]
    if isinstance(model, list | tuple):
        parts = list(model)
    else:
        slots = [name for kind in type(model).__mro__ for name in getattr(kind, "__slots__", ())]
        parts = [getattr(model, name, None) for name in (*slots, *getattr(model, "__dict__", ()))]
    return [weight for part in parts for weight in weights_of(part, seen)]


def forward_ms(model: LanguageModel, rows: ForwardBatch) -> float:
    begin = time.perf_counter()
    model.forward(rows)
    return (time.perf_counter() - begin) * 1e3


def main(threads: int = 1, repeat: int = 15) -> None:
    torch.set_num_threads(threads)
    model = load_model(ensure("smollm2"), "auto")
    model.allocate(32 * PAGES, PAGE_SIZE)
    weights = weights_of(model)
    lower = [weight._heights for weight in weights]
    full = [(TILE_ROWS,)] * len(weights)

    def use(heights: list[tuple[int, ...]]) -> None:
        for weight, each in zip(weights, heights, strict=True):
            weight._heights = each

    for num_rows in (1, 4, 8, 16, 32):
        rows = batch(num_rows)
        logits = []
        times: dict[str, list[float]] = {"full": [], "lower": []}
        for heights in (full, lower):
            use(heights)
            logits.append(model.forward(rows))
        assert torch.equal(*logits), "lower tiles change bits"
        for _ in range(repeat):  # alternating, so that a busy moment meets both
            for name, heights in (("full", full), ("lower", lower)):
                use(heights)
                times[name].append(forward_ms(model, rows))
        medians = {name: statistics.median(values) for name, values in times.items()}
        ratio = medians["full"] / medians["lower"]
        print(
            json.dumps(
                {"rows": num_rows, "weights": len(weights), "threads": threads}
                | {f"{name}_ms": round(value, 2) for name, value in medians.items()}
                | {"ratio": round(ratio, 2)}
            )
        )


if __name__ == "__main__":
    typer.run(main)
