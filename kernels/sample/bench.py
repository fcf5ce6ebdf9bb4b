"""What draws cost, on a vocabulary of 49,152. Reading the logits once is counted as the work."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from furcate.kernels.bench import BenchCase

from .native import SAMPLE_ROW, SCORE_ROW, SampleKernel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from furcate.kernels.library import Library, Pool

__all__ = ["cases"]

VOCAB_SIZE = 49_152
ROW_COUNTS = (1, 32)
PLAIN: dict[str, float] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "repetition_penalty": 1.0,
    "num_top": -1,
}
DRAWS: dict[str, dict[str, float]] = {
    "greedy": {"temperature": 0.0},
    "temperature": {},
    "top-k 40": {"top_k": 40},
    "top-p 0.9": {"top_p": 0.9},
    "top-p 0.9, hot": {"top_p": 0.9, "temperature": 2.5},
    "min-p 0.05": {"min_p": 0.05},
    "all filters": {"top_k": 40, "top_p": 0.9, "min_p": 0.05},
    "greedy, 5 logprobs": {"temperature": 0.0, "num_top": 5},
}


def cases(library: Library, pool: Pool) -> list[BenchCase]:
    kernel = SampleKernel(library, pool)
    return [case for count in ROW_COUNTS for case in _cases_of(kernel, count)]


def _cases_of(kernel: SampleKernel, count: int) -> list[BenchCase]:
    rng = np.random.default_rng(0)
    logits = (rng.standard_normal((count, VOCAB_SIZE)) * 3).astype(np.float32)
    masks = {
        "half allowed": rng.integers(0, 2**32, VOCAB_SIZE // 32, np.uint32),
        "few allowed": np.where(np.arange(VOCAB_SIZE // 32) % 97 == 0, 5, 0).astype(np.uint32),
    }
    calls: dict[str, Callable[[], None]] = {}
    for name, parameters in DRAWS.items():
        calls[name] = partial(_sample, kernel, logits, _rows(count, parameters))
    for name, mask in masks.items():
        for kind in ("greedy", "temperature"):
            rows = _rows(count, DRAWS[kind])
            rows["mask"] = mask.ctypes.data
            calls[f"{kind}, {name}"] = partial(_sample, kernel, logits, rows, mask)
    scores = np.zeros(count, SCORE_ROW)
    scores["logit"] = np.arange(count)
    calls["score"] = partial(_score, kernel, logits, scores)
    return [
        BenchCase(f"{name}, {count} rows", call, 0.0, float(logits.nbytes), "fp32")
        for name, call in calls.items()
    ]


def _rows(count: int, parameters: Mapping[str, float]) -> np.ndarray:
    rows = np.zeros(count, SAMPLE_ROW)
    for name, value in {**PLAIN, **parameters}.items():
        rows[name] = value
    rows["logit"] = rows["index"] = np.arange(count)
    return rows


def _sample(
    kernel: SampleKernel, logits: np.ndarray, rows: np.ndarray, _pointee: np.ndarray | None = None
) -> None:
    kernel.sample(logits, rows)


def _score(kernel: SampleKernel, logits: np.ndarray, rows: np.ndarray) -> None:
    kernel.score(logits, rows)
