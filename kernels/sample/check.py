"""Whether native draws are those of double precision, and log-probabilities as near as they may."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .native import SAMPLE_ROW, SCORE_ROW, SampleKernel
from .reference import draw_reference, log_probs_reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from furcate.kernels.library import Library, Pool

__all__ = ["check"]

VOCAB_SIZE, NUM_ROWS = 1003, 24  # more than one block of the kernel, and a piece of one
TOLERANCE = 1e-5  # of log-probabilities
DRAWS: Mapping[str, Mapping[str, float]] = {
    "greedy": {"temperature": 0},
    "temperature": {"temperature": 0.8},
    "top-k": {"top_k": 20},
    "top-p": {"top_p": 0.7},
    "min-p": {"min_p": 0.1},
    "all filters": {"temperature": 1.5, "top_k": 50, "top_p": 0.9, "min_p": 0.02},
}


def check(library: Library, pool: Pool) -> list[str]:
    kernel = SampleKernel(library, pool)
    rng = np.random.default_rng(0)
    logits = (rng.standard_normal((NUM_ROWS, VOCAB_SIZE)) * 3).astype(np.float32)
    masks = rng.integers(0, 2, (NUM_ROWS, -(-VOCAB_SIZE // 32) * 32), np.uint8)
    words = np.packbits(masks, axis=1, bitorder="little").view(np.uint32)
    mistakes = []
    for name, parameters in DRAWS.items():
        rows = _rows(parameters)
        wrong = _num_wrong(kernel, logits, rows, None)
        rows["mask"] = words.ctypes.data + words.strides[0] * np.arange(NUM_ROWS)
        wrong_masked = _num_wrong(kernel, logits, rows, masks[:, :VOCAB_SIZE].astype(bool))
        for kind, count in ((name, wrong), (f"{name}, masked", wrong_masked)):
            if count:
                mistakes.append(f"{kind}: {count} of {NUM_ROWS} draws differ from the reference")
    return mistakes + _check_scores(kernel, logits)


def _rows(parameters: Mapping[str, float]) -> np.ndarray:
    rows = np.zeros(NUM_ROWS, SAMPLE_ROW)
    rows["temperature"] = rows["top_p"] = rows["repetition_penalty"] = 1
    rows["num_top"] = -1
    rows["logit"] = rows["index"] = np.arange(NUM_ROWS)
    for name, value in parameters.items():
        rows[name] = value
    return rows


def _num_wrong(
    kernel: SampleKernel, logits: np.ndarray, rows: np.ndarray, allowed: np.ndarray | None
) -> int:
    drawn = kernel.sample(logits, rows).results["token_id"]
    expected = [
        draw_reference(logits[n], rows[n], None if allowed is None else allowed[n])
        for n in range(NUM_ROWS)
    ]
    return int((drawn != expected).sum())


def _check_scores(kernel: SampleKernel, logits: np.ndarray) -> list[str]:
    rows = np.zeros(NUM_ROWS, SCORE_ROW)
    rows["logit"] = np.arange(NUM_ROWS)
    rows["token_id"] = np.arange(NUM_ROWS) * 41
    rows["num_top"] = 5
    scored = kernel.score(logits, rows)
    exact = np.stack([log_probs_reference(line) for line in logits])
    best = np.argsort(-exact, axis=1, kind="stable")[:, :5]
    mistakes = []
    if not np.array_equal(scored.top_ids, best):
        mistakes.append("the likeliest ids beside a score are not the reference's")
    found = np.column_stack([scored.logprobs, scored.top_logprobs])
    columns = np.column_stack([rows["token_id"], best])
    error = np.abs(found - np.take_along_axis(exact, columns, 1)).max()
    if not error <= TOLERANCE:  # nan is wrong too
        mistakes.append(f"log-probabilities differ by {error:.3g}, allowed is {TOLERANCE}")
    return mistakes
