"""The products of a small model, for one row and for many: what `furcate kernels bench` times.

Shapes are those of SmolLM2-135M, whose layers are stored as Q4_1 and whose embeddings as Q8_0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from furcate.kernels.bench import BenchCase
from furcate.kernels.elementwise.native import Activation, RowBuffer, RowType

from .blocks import BLOCK_LAYOUTS
from .native import multiply, multiply_gated
from .weight import LinearWeight, StoredRows

if TYPE_CHECKING:
    from collections.abc import Callable

    from furcate.kernels.bench import Unit
    from furcate.kernels.library import Library, Pool

__all__ = ["cases", "random_blocks", "random_rows"]

SHAPES = {"qkv": (960, 576), "out": (576, 576), "gate_up": (3072, 576), "down": (576, 1536)}
HEAD = (49152, 576)
ROW_COUNTS = (1, 4, 8, 16, 32, 128, 512)
K_QUANTS = ("Q4_K", "Q5_K", "Q6_K")


def random_blocks(kind: str, n: int, k: int) -> StoredRows:
    """Random integers and tame scales."""
    layout = BLOCK_LAYOUTS[kind]
    rng = np.random.default_rng(n + k)
    raw = rng.integers(0, 256, (n * k // layout.values, layout.num_bytes), np.uint8)
    for at in layout.halves:
        halves = rng.uniform(-0.1, 0.1, (len(raw), 1)).astype("<f2")
        raw[:, at : at + 2] = halves.view(np.uint8)
    return StoredRows(kind, n, raw)


def random_rows(row_type: RowType, num_rows: int, k: int) -> RowBuffer:
    rng = np.random.default_rng(num_rows + k)
    rows = RowBuffer.unwritten(row_type, num_rows, k)
    if row_type is RowType.Q8:
        rows.data[:] = rng.integers(-127, 128, rows.data.shape, np.int8)
        rows.scales[:] = 0.01
        rows.sums[:] = rows.data.reshape(num_rows, -1, 32).sum(2)
    else:
        ones = {RowType.F32: 1.0, RowType.BF16: 0x3F80}  # speed does not depend on the numbers
        rows.data[:] = ones[row_type]
    return rows


def cases(library: Library, pool: Pool) -> list[BenchCase]:
    found = []
    for name, (n, k) in SHAPES.items():
        weight = _packed(pool, "Q4_1", n, k, "q8", gated=name == "gate_up")
        counts = ROW_COUNTS if name == "gate_up" else (1, 32, 512)
        found += [_case(pool, f"{name} Q4_1", weight, RowType.Q8, rows) for rows in counts]
    head = _packed(pool, "Q8_0", *HEAD, "q8")
    found += [_case(pool, "head Q8_0", head, RowType.Q8, rows) for rows in (1, 32, 128)]
    for kind in K_QUANTS:
        weight = _packed(pool, kind, 2048, 2048, "q8")
        found += [_case(pool, f"2048 {kind}", weight, RowType.Q8, rows) for rows in (1, 32)]
    bf16 = _packed(pool, "F32", 3072, 576, "bf16")
    found += [_case(pool, "3072 BF16", bf16, RowType.BF16, rows) for rows in (1, 32, 512)]
    f32 = _packed(pool, "F32", 3072, 576, "f32")
    found += [_case(pool, "3072 F32", f32, RowType.F32, rows) for rows in (1, 32)]
    return found


def _packed(
    pool: Pool, kind: str, n: int, k: int, row_type: str, gated: bool = False
) -> LinearWeight:
    def stored(height: int) -> StoredRows:
        if kind == "F32":
            return StoredRows("F32", height, np.ones((height, k), np.float32))
        return random_blocks(kind, height, k)

    parts = [stored(n // 2), stored(n // 2)] if gated else [stored(n)]
    if row_type == "q8":
        return LinearWeight.pack(pool, parts, k, "q8", gated=gated)
    return LinearWeight.pack(pool, parts, k, "bf16" if row_type == "bf16" else "f32", gated=gated)


def _case(
    pool: Pool, name: str, weight: LinearWeight, row_type: RowType, num_rows: int
) -> BenchCase:
    n, k = weight.out_features, weight.in_features
    x = random_rows(row_type, num_rows, k)
    units: dict[RowType, Unit] = {RowType.Q8: "q8", RowType.BF16: "bf16", RowType.F32: "fp32"}
    unit = units[row_type]
    run: Callable[[], None]
    if name.startswith("gate_up"):
        gated = RowBuffer.unwritten(RowType.Q8, num_rows, n // 2)

        def run() -> None:
            multiply_gated(pool, weight, x, gated, Activation.SILU)
    else:
        out = np.zeros((num_rows, n), np.float32)

        def run() -> None:
            multiply(pool, weight, x, out)

    flops = 2.0 * num_rows * n * k
    return BenchCase(f"{name} x {num_rows}", run, flops, weight.num_bytes, unit)
