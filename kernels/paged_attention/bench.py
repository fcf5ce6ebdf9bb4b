"""Timing of the native paged attention on the head shapes of a small model: prefill, decode at
several lengths, and rows behind one shared prefix. Knows no thresholds."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from furcate.kernels.bench import BenchCase
from furcate.kernels.elementwise.native import RowBuffer, RowType

from .native import KVType, PagedAttention, PageMemory, Plan, Shape, Step, round_bf16

if TYPE_CHECKING:
    from furcate.kernels.library import Library, Pool

__all__ = ["cases"]

NUM_HEADS, KV_HEADS, HEAD_DIM, PAGE_SIZE = 9, 3, 64, 16
# Layers follow each other in a model, so no layer finds its keys in the caches of the last step.
CACHE_BYTES = 96 << 20
MOST_LAYERS = 30


@dataclass(frozen=True, slots=True)
class Workload:
    name: str
    cached: int  # tokens of each row before its own
    own: int
    num_rows: int = 1
    shared: int = 0  # leading tokens whose pages all rows name


WORKLOADS = (
    Workload("prefill 1024", 0, 1024),
    Workload("prefill chunk 256 after 768", 768, 256),
    Workload("decode 1 row, 300 keys", 299, 1),
    Workload("decode 1 row, 4096 keys", 4095, 1),
    Workload("decode 32 rows, 200 keys", 199, 1, 32),
    Workload("decode 32 rows, 1100 keys", 1099, 1, 32),
    Workload("decode 32 rows, 1024 of 1100 keys shared", 1099, 1, 32, 1024),
    Workload("32 selects of 5 tokens, 1024 of 1100 keys shared", 1095, 5, 32, 1024),
)


def cases(library: Library, pool: Pool) -> list[BenchCase]:
    op = PagedAttention(library, pool)
    return [
        _case(op, pool, workload, kv_type)
        for kv_type in (KVType.BF16, KVType.INT8)
        for workload in WORKLOADS
    ] + [_plan_case(op, pool)]


def _step(workload: Workload, num_pages: int) -> Step:
    kv_len = workload.cached + workload.own
    per_row = -(-kv_len // PAGE_SIZE)
    pages = np.random.default_rng(0).permutation(num_pages).astype(np.int32)
    table = pages[: workload.num_rows * per_row].reshape(workload.num_rows, per_row)
    shared_pages = workload.shared // PAGE_SIZE
    table[:, :shared_pages] = table[0, :shared_pages]
    own = np.arange(workload.cached, kv_len, dtype=np.int32)
    return Step(
        np.arange(workload.num_rows + 1, dtype=np.int32) * workload.own,
        np.tile(own, workload.num_rows),
        np.full(workload.num_rows, kv_len, np.int32),
        np.ascontiguousarray(table),
    )


def _case(op: PagedAttention, pool: Pool, workload: Workload, kv_type: KVType) -> BenchCase:
    kv_len = workload.cached + workload.own
    num_pages = workload.num_rows * -(-kv_len // PAGE_SIZE)
    shape = Shape(NUM_HEADS, KV_HEADS, HEAD_DIM, PAGE_SIZE, num_pages, kv_type)
    step = _step(workload, num_pages)
    first = op.allocate(shape)
    num_bytes = 2 * (first.keys.nbytes + first.key_scales.nbytes)
    num_layers = max(1, min(MOST_LAYERS, CACHE_BYTES // num_bytes))
    layers = [first, *(op.allocate(shape) for _ in range(num_layers - 1))]
    for pages in layers:
        _fill(op, shape, pages)
    num_tokens = len(step.positions)
    queries = round_bf16(
        np.random.default_rng(1).standard_normal((num_tokens, NUM_HEADS, HEAD_DIM))
    )
    out = RowBuffer.unwritten(RowType.Q8, num_tokens, NUM_HEADS * HEAD_DIM)
    plan = op.plan(shape)
    plan.make(step, pool.num_threads)
    keys = workload.num_rows * kv_len - (workload.num_rows - 1) * workload.shared
    return BenchCase(
        f"attention {kv_type.name.lower()}: {workload.name}",
        functools.partial(_layers, op, shape, layers, plan, queries, out),
        num_layers * 4.0 * HEAD_DIM * NUM_HEADS * float((step.positions + 1).sum()),
        num_layers * float(keys) * num_bytes / (num_pages * PAGE_SIZE),
        "bf16",
    )


def _fill(op: PagedAttention, shape: Shape, pages: PageMemory) -> None:
    num_slots = shape.num_pages * PAGE_SIZE
    every = Step(
        np.array([0, num_slots], np.int32),
        np.arange(num_slots, dtype=np.int32),
        np.array([num_slots], np.int32),
        np.arange(shape.num_pages, dtype=np.int32)[None],
    )
    numbers = np.random.default_rng(2).standard_normal((2, num_slots, KV_HEADS, HEAD_DIM))
    keys, values = numbers.astype(np.float32)
    op.write(shape, pages, every, keys, values)


def _layers(
    op: PagedAttention,
    shape: Shape,
    layers: list[PageMemory],
    plan: Plan,
    queries: np.ndarray,
    out: RowBuffer,
) -> None:
    for pages in layers:
        op.attend(shape, pages, plan, queries, out, HEAD_DIM**-0.5)


def _plan_case(op: PagedAttention, pool: Pool) -> BenchCase:
    """Its bytes are those of the page table."""
    workload = Workload("", 2559, 1, 32, 1280)
    num_pages = workload.num_rows * -(-(workload.cached + 1) // PAGE_SIZE)
    step = _step(workload, num_pages)
    plan = op.plan(Shape(NUM_HEADS, KV_HEADS, HEAD_DIM, PAGE_SIZE, num_pages))
    return BenchCase(
        "attention plan: 32 rows of 10 splits, 5 of them shared",
        functools.partial(plan.make, step, pool.num_threads),
        0.0,
        float(step.page_table.nbytes),
        "bf16",
    )
