"""Whether native attention is the softmax that it should be, for rows around pages and splits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from furcate.kernels.elementwise.native import RowBuffer, RowType

from .native import KVType, PagedAttention, Shape, Step, round_bf16

if TYPE_CHECKING:
    from furcate.kernels.library import Library, Pool

__all__ = ["check"]

LENGTHS = (1, 15, 16, 17, 256, 257, 300)
HEADS, KV_HEADS, HEAD_DIM, PAGE_SIZE = 6, 2, 32, 16
# Of results that are means of numbers near one, weights being rounded to bfloat16.
TOLERANCES = {KVType.BF16: 0.02, KVType.INT8: 0.04}


def check(library: Library, pool: Pool) -> list[str]:
    rng = np.random.default_rng(0)
    step = _step()
    num_tokens = sum(LENGTHS)
    keys, values = rng.standard_normal((2, num_tokens, KV_HEADS, HEAD_DIM)).astype(np.float32)
    queries = round_bf16(rng.standard_normal((num_tokens, HEADS, HEAD_DIM)))
    exact = _expected(queries, keys, values)
    operation = PagedAttention(library, pool)
    mistakes = []
    for kind, tolerance in TOLERANCES.items():
        shape = Shape(HEADS, KV_HEADS, HEAD_DIM, PAGE_SIZE, step.page_table.max() + 1, kind)
        pages = operation.allocate(shape, fill=0xFF)
        operation.write(shape, pages, step, keys, values)
        plan = operation.plan(shape)
        plan.make(step, pool.num_threads)
        out = RowBuffer.unwritten(RowType.F32, num_tokens, HEADS * HEAD_DIM)
        operation.attend(shape, pages, plan, queries, out, HEAD_DIM**-0.5)
        plan.close()
        error = float(np.abs(out.values() - exact).max())
        if not error <= tolerance:  # nan is wrong too
            mistakes.append(f"{kind.name}: results differ by {error:.3g}, allowed is {tolerance}")
    return mistakes


def _step() -> Step:
    """Every row with all its tokens and pages of its own."""
    num_pages = [-(-length // PAGE_SIZE) for length in LENGTHS]
    table = np.zeros((len(LENGTHS), max(num_pages)), np.int32)
    first = 0
    for row, count in enumerate(num_pages):
        table[row, :count] = np.arange(first, first + count)
        first += count
    starts = np.cumsum([0, *LENGTHS]).astype(np.int32)
    positions = np.concatenate([np.arange(length, dtype=np.int32) for length in LENGTHS])
    return Step(starts, positions, np.array(LENGTHS, np.int32), table)


def _expected(queries: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """In double precision, without pages and splits.  # [T, HEADS * HEAD_DIM]"""
    exact = (queries.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
    group = HEADS // KV_HEADS
    rows, start = [], 0
    for length in LENGTHS:
        of_row = slice(start, start + length)
        k, v = (part[of_row].repeat(group, axis=1) for part in (keys, values))
        scores = np.einsum("qhd,khd->hqk", exact[of_row], k) * HEAD_DIM**-0.5
        scores[:, ~np.tri(length, dtype=bool)] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        rows.append(np.einsum("hqk,khd->qhd", weights, v).reshape(length, -1))
        start += length
    return np.concatenate(rows)
