"""Whether whole forwards, one after the other on their thread, give the logits that they should,
and read the tokens that those before them drew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from furcate.kernels.paged_attention.native import Shape

from .example import Model, ModelShape, StepRows, build_model, greedy
from .reference import forward_reference

if TYPE_CHECKING:
    from furcate.kernels.library import Library, Pool

__all__ = ["check"]

SHAPE = ModelShape(
    num_layers=2,
    hidden_size=96,
    ffn_size=160,
    vocab_size=100,
    heads=Shape(num_heads=6, kv_heads=2, head_dim=16, page_size=16, num_pages=4),
)
PAGES_PER_ROW, NUM_STEPS = 2, 8
TOLERANCE = 0.05  # of logits around 1: queries, keys and values are rounded to bfloat16


def check(library: Library, pool: Pool) -> list[str]:
    model = Model.random(SHAPE, "F32", "F32")
    rng = np.random.default_rng(1)
    lines = [rng.integers(0, SHAPE.vocab_size, count).tolist() for count in (20, 3)]
    executor = build_model(pool, model)
    early, late = greedy([0]), greedy([1])
    steps, logits = [], []
    try:
        for number in range(NUM_STEPS):
            ids = [[-1], [-2]] if number else lines
            begins = [len(line) + number - 1 if number else 0 for line in lines]
            steps.append(executor.submit(StepRows.of(ids, begins, PAGES_PER_ROW), early))
            executor.draw(steps[-1], late)
            if number:
                executor.wait(steps[-2])
                logits.append(executor.logits(steps[-2]).copy())
        executor.wait(steps[-1])
        logits.append(executor.logits(steps[-1]).copy())
    finally:
        executor.close()
    return _mistakes(model, lines, np.stack(logits, 1))


def _mistakes(model: Model, lines: list[list[int]], logits: np.ndarray) -> list[str]:
    """logits [rows, steps, vocab_size]"""
    mistakes = []
    for row, (line, found) in enumerate(zip(lines, logits, strict=True)):
        drawn = found.argmax(-1).tolist()
        exact = forward_reference(model, [*line, *drawn[:-1]])[len(line) - 1 :]
        error = float(np.abs(found - exact).max())
        if not error <= TOLERANCE:  # nan is wrong too
            mistakes.append(f"row {row}: logits differ by {error:.3g}, allowed is {TOLERANCE}")
    return mistakes
