"""A model of random weights as a native program, for the check and the benchmark of forwards.

In the shape of the llama family; one embedding matrix serves both ends. Knows no files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from furcate.kernels.elementwise.native import TABLE_TYPES, Table
from furcate.kernels.linear.blocks import BLOCK_LAYOUTS
from furcate.kernels.linear.weight import LinearWeight, StoredRows
from furcate.kernels.paged_attention.native import PagedAttention, Shape
from furcate.kernels.sample.native import SAMPLE_ROW
from furcate.kernels.structures import KVPages

from .native import ForwardBuilder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.kernels.library import Pool
    from furcate.kernels.structures import RowType

    from .native import Buffer, ForwardExecutor, SlotCopy

__all__ = [
    "EPS",
    "Layer",
    "Model",
    "ModelShape",
    "StepRows",
    "build_model",
    "frequencies",
    "greedy",
]

EPS = 1e-5


@dataclass(frozen=True, slots=True)
class ModelShape:
    num_layers: int
    hidden_size: int
    ffn_size: int
    vocab_size: int
    heads: Shape

    @property
    def q_size(self) -> int:
        return self.heads.num_heads * self.heads.head_dim

    @property
    def qkv_size(self) -> int:
        return self.q_size + 2 * self.heads.kv_heads * self.heads.head_dim


class Layer(NamedTuple):
    """Matrices [out, in] as they are stored."""

    qkv: StoredRows
    output: StoredRows
    gate: StoredRows
    up: StoredRows
    down: StoredRows


class Model(NamedTuple):
    shape: ModelShape
    norm: np.ndarray  # of every place  # float32 [hidden_size]
    layers: tuple[Layer, ...]
    table: StoredRows  # [vocab_size, hidden_size]

    @classmethod
    def random(cls, shape: ModelShape, kind: str, table_kind: str) -> Model:
        """Types of matrices and of the table as in GGUF files."""
        rng = np.random.default_rng(0)
        hidden, ffn = shape.hidden_size, shape.ffn_size
        sizes = [(shape.qkv_size, hidden), (hidden, shape.q_size), (ffn, hidden), (ffn, hidden)]
        sizes.append((hidden, ffn))
        layers = tuple(
            Layer(*(_random_rows(kind, n, k, rng) for n, k in sizes))
            for _ in range(shape.num_layers)
        )
        norm = rng.uniform(0.5, 1.5, hidden).astype(np.float32)
        return cls(shape, norm, layers, _random_rows(table_kind, shape.vocab_size, hidden, rng))


@dataclass(frozen=True, slots=True)
class StepRows:
    """The arrays of a step, as StepBatch has them."""

    token_ids: np.ndarray
    positions: np.ndarray
    row_starts: np.ndarray
    kv_lens: np.ndarray
    page_table: np.ndarray
    logit_indices: np.ndarray
    copies: Sequence[SlotCopy] = ()

    @classmethod
    def of(cls, lines: list[list[int]], begins: list[int], pages_per_row: int) -> StepRows:
        """Rows in order, with a logit for the last token of each: their ids, and the position of
        the first. Row r has the pages from r * pages_per_row on."""
        lengths = [len(line) for line in lines]
        starts = np.cumsum([0, *lengths], dtype=np.int32)
        spans = zip(begins, lengths, strict=True)
        return cls(
            np.concatenate(lines).astype(np.int32),
            np.concatenate([np.arange(a, a + n, dtype=np.int32) for a, n in spans]),
            starts,
            np.add(begins, lengths, dtype=np.int32),
            np.arange(len(lines) * pages_per_row, dtype=np.int32).reshape(len(lines), -1),
            starts[1:] - np.int32(1),
        )


def frequencies(head_dim: int) -> np.ndarray:
    """Radians a position.  # float32 [head_dim / 2]"""
    powers = np.arange(0, head_dim, 2) / head_dim
    return np.power(10_000.0, -powers).astype(np.float32)


def build_model(pool: Pool, model: Model) -> ForwardExecutor:
    """Blocks are multiplied with quantised rows, floats with float32 ones."""
    shape, heads = model.shape, model.shape.heads
    operation = PagedAttention(pool.library, pool)
    memory = [operation.allocate(heads) for _ in model.layers]
    pages = (KVPages * len(memory))(*(each.struct for each in memory))
    builder = ForwardBuilder(pool, heads.struct, pages, shape.vocab_size)
    builder.keep(memory)
    hidden = builder.buffer("f32", shape.hidden_size)
    rope = builder.rope(frequencies(heads.head_dim))
    raw = np.ascontiguousarray(model.table.data).view(np.uint8).reshape(-1)
    table = Table(TABLE_TYPES[model.table.type], raw, shape.vocab_size, shape.hidden_size)
    builder.keep(table)
    builder.embed(table.struct(), hidden)
    _add_layers(builder, pool, model, hidden, rope)
    head = LinearWeight.pack(pool, [model.table], shape.hidden_size, _row_type(model.table.type))
    builder.head(hidden, model.norm, EPS, head)
    return builder.build()


def _add_layers(
    builder: ForwardBuilder, pool: Pool, model: Model, hidden: Buffer, rope: int
) -> None:
    shape, head_dim = model.shape, model.shape.heads.head_dim
    form = _row_type(model.layers[0].qkv.type)
    normed, qkv = builder.buffer(form, shape.hidden_size), builder.buffer("f32", shape.qkv_size)
    q, attended = builder.buffer("bf16", shape.q_size), builder.buffer(form, shape.q_size)
    gated = builder.buffer(form, shape.ffn_size)

    def packed(k: int, *parts: StoredRows) -> LinearWeight:
        return LinearWeight.pack(pool, parts, k, form, gated=len(parts) > 1)

    for number, layer in enumerate(model.layers):
        builder.norm(hidden, model.norm, EPS, normed)
        builder.linear(normed, packed(shape.hidden_size, layer.qkv), qkv)
        builder.rotate(number, qkv, q, rope, head_dim, False)
        builder.attend(number, q, attended, head_dim**-0.5)
        builder.linear(attended, packed(shape.q_size, layer.output), hidden, "add")
        builder.norm(hidden, model.norm, EPS, normed)
        gate_up = packed(shape.hidden_size, layer.gate, layer.up)
        builder.linear(normed, gate_up, gated, "gated")
        builder.linear(gated, packed(shape.ffn_size, layer.down), hidden, "add")


def _row_type(kind: str) -> RowType:
    return "q8" if kind in BLOCK_LAYOUTS else "f32"


def _random_rows(kind: str, n: int, k: int, rng: np.random.Generator) -> StoredRows:
    """Values that leave rows of about their size."""
    if kind == "F32":
        return StoredRows(kind, n, (rng.standard_normal((n, k)) * k**-0.5).astype(np.float32))
    layout = BLOCK_LAYOUTS[kind]
    raw = rng.integers(0, 256, (n * k // layout.values, layout.num_bytes), np.uint8)
    for at in layout.halves:
        halves = rng.uniform(-1e-2, 1e-2, (len(raw), 1)).astype("<f2")
        raw[:, at : at + 2] = halves.view(np.uint8)
    return StoredRows(kind, n, raw)


def greedy(logits: Sequence[int]) -> np.ndarray:
    """Records that draw the largest of each row of logits."""
    rows = np.zeros(len(logits), SAMPLE_ROW)
    rows["logit"] = logits
    rows["top_p"], rows["repetition_penalty"], rows["num_top"] = 1, 1, -1
    return rows
