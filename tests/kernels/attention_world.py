"""What tests of native paged attention share: sequences, their pages, and an oracle in float64."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from furcate.kernels.elementwise.native import RowBuffer, RowType
from furcate.kernels.paged_attention.native import (
    KVType,
    PagedAttention,
    PageMemory,
    Shape,
    Step,
    round_bf16,
)

from .native import library, pool

__all__ = [
    "GARBAGE",
    "PLAIN",
    "Options",
    "Sequence",
    "Span",
    "World",
    "operation",
    "oracle",
    "sequence",
    "step_of",
    "world",
]

OPS = ("elementwise", "paged_attention")
GARBAGE = 0xFF  # NaNs, as bfloat16 and as scales


@dataclass(frozen=True, slots=True)
class Sequence:
    """Everything that attention could be asked about one text."""

    queries: np.ndarray  # float32 [n, num_heads, head_dim], exact in bfloat16
    keys: np.ndarray  # float32 [n, kv_heads, head_dim], exact in bfloat16
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def after(self, prefix: Sequence) -> Sequence:
        """This text behind the whole of another."""
        return Sequence(
            np.concatenate((prefix.queries, self.queries)),
            np.concatenate((prefix.keys, self.keys)),
            np.concatenate((prefix.values, self.values)),
        )


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens begin .. end - 1 of a sequence, as a row of a step."""

    sequence: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Options:
    soft_cap: float = 0.0
    window: int = 0
    scale: float = 0.0  # 0: one over the root of head_dim


PLAIN = Options()


def floats(stored: np.ndarray) -> np.ndarray:
    return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)


def sequence(shape: Shape, length: int, seed: int) -> Sequence:
    rng = np.random.default_rng(seed)
    heads = (shape.num_heads, shape.kv_heads, shape.kv_heads)
    queries, keys, values = (
        floats(round_bf16(rng.standard_normal((length, count, shape.head_dim)))) for count in heads
    )
    return Sequence(queries * 2, keys, values)  # attention that is not all but even


@functools.cache
def operation(tier: str, num_threads: int) -> PagedAttention:
    return PagedAttention(library(tier, *OPS), pool(tier, num_threads, *OPS))


def step_of(spans: list[Span], tables: list[np.ndarray], page_size: int) -> Step:
    """Whole pages that a row does not have are named -1: nobody may look there."""
    width = max(-(-span.end // page_size) for span in spans)
    table = np.full((len(spans), width), -1, np.int32)
    for row, (span, pages) in enumerate(zip(spans, tables, strict=True)):
        used = -(-span.end // page_size)
        table[row, :used] = pages[:used]
    lengths = [span.end - span.begin for span in spans]
    positions = [np.arange(span.begin, span.end, dtype=np.int32) for span in spans]
    return Step(
        np.concatenate(([0], np.cumsum(lengths))).astype(np.int32),
        np.ascontiguousarray(np.concatenate(positions), np.int32),
        np.array([span.end for span in spans], np.int32),
        table,
    )


@dataclass(frozen=True, slots=True)
class World:
    """Sequences in the pages of one layer. The first `shared` tokens of all, which must be the same
    and fill whole pages, are in the same pages."""

    op: PagedAttention
    num_threads: int
    shape: Shape
    sequences: list[Sequence]
    tables: list[np.ndarray]
    pages: PageMemory

    def attend(
        self, spans: list[Span], options: Options = PLAIN, row_type: RowType = RowType.F32
    ) -> RowBuffer:
        step = step_of(spans, [self.tables[span.sequence] for span in spans], self.shape.page_size)
        queries = [self.sequences[s.sequence].queries[s.begin : s.end] for s in spans]
        width = self.shape.num_heads * self.shape.head_dim
        out = RowBuffer.unwritten(row_type, len(step.positions), width)
        plan = self.op.plan(self.shape)
        plan.make(step, self.num_threads)
        scale = options.scale or self.shape.head_dim**-0.5
        self.op.attend(
            self.shape,
            self.pages,
            plan,
            round_bf16(np.concatenate(queries)),
            out,
            scale,
            options.soft_cap,
            options.window,
        )
        plan.close()
        return out

    def rows(self, spans: list[Span], options: Options = PLAIN) -> list[np.ndarray]:
        """The results of each span.  # float32 [n, num_heads * head_dim]"""
        lengths = [span.end - span.begin for span in spans]
        return np.split(self.attend(spans, options).data, np.cumsum(lengths)[:-1])

    def num_tasks(self, spans: list[Span]) -> list[int]:
        step = step_of(spans, [self.tables[span.sequence] for span in spans], self.shape.page_size)
        plan = self.op.plan(self.shape)
        plan.make(step, self.num_threads)
        tasks = plan.num_tasks
        plan.close()
        return tasks


def world(
    tier: str,
    shape: Shape,
    sequences: list[Sequence],
    num_threads: int = 2,
    page_seed: int = 0,
    shared: int = 0,
    fill: int = GARBAGE,
) -> World:
    counts = [-(-len(each) // shape.page_size) for each in sequences]
    total = sum(counts) + 3
    shape = Shape(
        shape.num_heads, shape.kv_heads, shape.head_dim, shape.page_size, total, shape.type
    )
    order = np.random.default_rng(page_seed).permutation(total).astype(np.int32)
    tables = np.split(order, np.cumsum(counts))[:-1]
    for table in tables:
        table[: shared // shape.page_size] = tables[0][: shared // shape.page_size]
    op = operation(tier, num_threads)
    pages = op.allocate(shape, fill)
    step = step_of(
        [Span(n, 0, len(each)) for n, each in enumerate(sequences)], tables, shape.page_size
    )
    op.write(
        shape,
        pages,
        step,
        np.concatenate([each.keys for each in sequences]),
        np.concatenate([each.values for each in sequences]),
    )
    return World(op, num_threads, shape, sequences, tables, pages)


def as_stored(vectors: np.ndarray, kv_type: KVType) -> np.ndarray:
    """What the pages hold of keys or values, as numbers."""
    if kv_type is KVType.BF16:
        return vectors.astype(np.float64)
    largest = np.abs(vectors).max(-1, keepdims=True)
    codes = np.rint(vectors * (np.float32(127) / largest))
    return codes.astype(np.float64) * (largest / np.float32(127))


def oracle(shape: Shape, each: Sequence, span: Span, options: Options = PLAIN) -> np.ndarray:
    """One softmax over all keys, in float64."""
    group = shape.num_heads // shape.kv_heads
    keys = np.repeat(as_stored(each.keys, shape.type), group, axis=1)
    values = np.repeat(as_stored(each.values, shape.type), group, axis=1)
    out = np.empty((span.end - span.begin, shape.num_heads, shape.head_dim))
    for token in range(span.begin, span.end):
        first = max(0, token + 1 - options.window) if options.window else 0
        scores = np.einsum("hd,khd->hk", each.queries[token], keys[first : token + 1])
        scores *= options.scale or shape.head_dim**-0.5
        if options.soft_cap:
            scores = options.soft_cap * np.tanh(scores / options.soft_cap)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        out[token - span.begin] = np.einsum("hk,khd->hd", weights, values[first : token + 1])
    return out.reshape(span.end - span.begin, -1)
