"""A small native program of forwards, its steps and what is asked of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from furcate.kernels.elementwise.native import TableType
from furcate.kernels.forward import example
from furcate.kernels.forward.example import StepRows
from furcate.kernels.forward.native import ForwardBuilder
from furcate.kernels.library import Pool
from furcate.kernels.linear.weight import LinearWeight, StoredRows
from furcate.kernels.structures import Embedding, KVPages, KVShape

from .native import AVAILABLE, library

if TYPE_CHECKING:
    from collections.abc import Iterator

    from furcate.kernels.forward.native import ForwardExecutor


TIER = AVAILABLE[0]
PAGE_SIZE, NUM_PAGES = 16, 256
HEADS, HEAD_DIM, WIDTH, VOCAB_SIZE = 2, 32, 64, 50
LONG = 3000  # tokens whose attention takes a while


class Copy(NamedTuple):
    source: int
    target: int
    num_tokens: int


def int32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def row(*ids: int, begin: int = 0, first_page: int = 0, num_logits: int = 1) -> StepRows:
    """One row, with logits for its last tokens."""
    end = begin + len(ids)
    num_pages = -(-end // PAGE_SIZE)
    return StepRows(
        token_ids=int32(*ids),
        positions=np.arange(begin, end, dtype=np.int32),
        row_starts=int32(0, len(ids)),
        kv_lens=int32(end),
        page_table=np.arange(first_page, first_page + num_pages, dtype=np.int32)[None],
        logit_indices=np.arange(len(ids) - num_logits, len(ids), dtype=np.int32),
    )


def several(*ids: int) -> StepRows:
    """A token each of so many sequences, on pages 10, 11 .."""
    count = len(ids)
    return StepRows(
        token_ids=int32(*ids),
        positions=np.zeros(count, np.int32),
        row_starts=np.arange(count + 1, dtype=np.int32),
        kv_lens=np.ones(count, np.int32),
        page_table=np.arange(10, 10 + count, dtype=np.int32)[:, None],
        logit_indices=np.arange(count, dtype=np.int32),
    )


def long_row(num_logits: int = 1) -> StepRows:
    return row(*[n % VOCAB_SIZE for n in range(LONG)], num_logits=num_logits)


def define(builder: ForwardBuilder, pool: Pool, num_layers: int) -> None:
    rng = np.random.default_rng(0)

    def floats(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.3, shape).astype(np.float32)

    def matrix(n: int, k: int) -> LinearWeight:
        return LinearWeight.pack(pool, [StoredRows("F32", n, floats(n, k))], k, "f32")

    table = floats(VOCAB_SIZE, WIDTH)
    builder.keep(table)
    hidden, normed = builder.buffer("f32", WIDTH), builder.buffer("f32", WIDTH)
    qkv, q = builder.buffer("f32", 3 * HEADS * HEAD_DIM), builder.buffer("bf16", HEADS * HEAD_DIM)
    rope = builder.rope(0.1 ** np.arange(HEAD_DIM // 2, dtype=np.float32))
    builder.embed(Embedding(TableType.F32, WIDTH, VOCAB_SIZE, table.ctypes.data, 1.0), hidden)
    ones = np.ones(WIDTH, np.float32)
    for layer in range(num_layers):
        builder.norm(hidden, ones, 1e-5, normed)
        builder.linear(normed, matrix(3 * HEADS * HEAD_DIM, WIDTH), qkv)
        builder.rotate(layer, qkv, q, rope, HEAD_DIM, True)
        builder.attend(layer, q, normed, HEAD_DIM**-0.5)
        builder.linear(normed, matrix(WIDTH, WIDTH), hidden, "add")
    builder.head(hidden, ones, 1e-5, matrix(VOCAB_SIZE, WIDTH))


def make(pool: Pool, num_layers: int = 2, *, unused_width: int = 0) -> ForwardExecutor:
    """`unused_width`: of one more buffer, which has memory and no use."""
    shape = KVShape(0, HEADS, HEADS, HEAD_DIM, PAGE_SIZE, NUM_PAGES)
    num_bytes = 2 * NUM_PAGES * PAGE_SIZE * HEADS * HEAD_DIM
    memory = [np.zeros(num_bytes + 64, np.uint8) for _ in range(2 * num_layers)]
    starts = [-(-each.ctypes.data // 64) * 64 for each in memory]
    layers = (KVPages * num_layers)(
        *(KVPages(starts[2 * n], starts[2 * n + 1]) for n in range(num_layers))
    )
    builder = ForwardBuilder(pool, shape, layers, VOCAB_SIZE)
    builder.keep(memory)
    if unused_width:
        builder.buffer("f32", unused_width)
    define(builder, pool, num_layers)
    return builder.build()


@contextmanager
def running(tier: str = TIER, num_threads: int = 2) -> Iterator[ForwardExecutor]:
    with Pool(library(tier), num_threads) as pool:
        executor = make(pool)
        try:
            yield executor
        finally:
            executor.close()


def result(executor: ForwardExecutor, batch: StepRows) -> np.ndarray:
    seq = executor.submit(batch)
    executor.wait(seq)
    return executor.logits(seq).copy()


def greedy(*logits: int, mask: np.ndarray | None = None) -> np.ndarray:
    """Records that draw the largest logit of each row."""
    rows = example.greedy(logits)
    if mask is not None:
        rows["mask"] = mask.ctypes.data
    return rows
