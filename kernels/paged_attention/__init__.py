"""Causal attention of ragged rows over paged keys and values.

A row is a run of consecutive tokens of one sequence. One layer does, in this order: `write_kv` of
the keys and of the values, `copy_pages` of both, `attend`.

positions   int32 [T], consecutive within a row
row_starts  int32 [R + 1]: row r has tokens row_starts[r] .. row_starts[r + 1] - 1
kv_lens     int32 [R]: keys of a row, its own tokens included
page_table  int32 [R, max pages]: page i of a row holds positions i * page_size and on
pages       float32 or bfloat16 [P, kv_heads, page_size, head_dim], contiguous; one tensor for the
            keys and one for the values of a layer; page_size divides SPLIT
keys        float32 or bfloat16 [T, kv_heads, head_dim], the values alike; rounded to the pages'
queries     float32 or bfloat16 [T, num_heads, head_dim]
result      float32 [T, num_heads, head_dim]

Extras, of the reference alone. `window`: a token sees itself and the window - 1 before it, and
`plan_attention` leaves out splits that nobody sees. `softcap`: scores go through softcap *
tanh(score / softcap). `sinks`, float32 [num_heads]: a logit more in each head's softmax, without a
value. The values' pages may be the keys' own.

Numerics. The keys of a query are cut at multiples of SPLIT = 256 positions; each split has its own
softmax in float32, and splits are merged left to right. Every product is one tile of `query_tile`
queries (a number of the model's) against one whole split, masked keys weighing exactly zero, so no
shape depends on how many rows there are, how a row was cut into chunks or which pages hold it, and
neither does any bit.
Rows whose tables name the same pages for a split are computed against one gathered copy of it: that
saves work and changes nothing else.

The native kernels (`include/attention.h`) do the same on pages of their own layout and with their
own fixed order of products and sums; `native.py` calls them.

ValueError for shapes and dtypes that break this contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .copies import CopyStep, plan_copies
from .plan import SPLIT, AttentionPlan, AttentionShape, plan_attention
from .reference import attend_reference, copy_pages_reference, write_kv_reference
from .scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = [
    "SPLIT",
    "AttentionPlan",
    "AttentionShape",
    "CopyStep",
    "Scratch",
    "attend",
    "copy_pages",
    "plan_attention",
    "plan_copies",
    "write_kv",
]


def write_kv(pages: Tensor, values: Tensor, plan: AttentionPlan) -> None:
    """Stores the keys (or the values) of the plan's T tokens in their slots of `pages`."""
    shape = plan.shape
    _check_pages(pages, shape)
    if values.shape != (plan.num_tokens, shape.kv_heads, shape.head_dim):
        raise ValueError(
            f"keys and values must be [{plan.num_tokens}, {shape.kv_heads}, {shape.head_dim}], "
            f"got {list(values.shape)}"
        )
    write_kv_reference(pages, values, plan.slots)


def copy_pages(pages: Tensor, steps: Sequence[CopyStep]) -> None:
    """Copies slots between pages, step after step."""
    if not pages.is_contiguous() or pages.ndim != 4:
        raise ValueError(f"pages must be contiguous [P, H, S, D], got {list(pages.shape)}")
    for step in steps:
        copy_pages_reference(pages, step.sources, step.targets)


def attend(
    queries: Tensor,
    key_pages: Tensor,
    value_pages: Tensor,
    plan: AttentionPlan,
    scale: float,
    scratch: Scratch | None = None,
    *,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """The attention of every query over its own and all earlier positions of its row.

    A `scratch` that is passed again and again spares the allocation of gathered keys and values."""
    shape = plan.shape
    _check_pages(key_pages, shape)
    _check_pages(value_pages, shape)
    if queries.shape != (plan.num_tokens, shape.num_heads, shape.head_dim):
        raise ValueError(
            f"queries must be [{plan.num_tokens}, {shape.num_heads}, {shape.head_dim}], "
            f"got {list(queries.shape)}"
        )
    if sinks is not None and sinks.shape != (shape.num_heads,):
        raise ValueError(f"sinks must be [{shape.num_heads}], got {list(sinks.shape)}")
    return attend_reference(
        queries, key_pages, value_pages, plan, scale, scratch or Scratch(), softcap, sinks
    )


def _check_pages(pages: Tensor, shape: AttentionShape) -> None:
    expected = (shape.kv_heads, shape.page_size, shape.head_dim)
    if pages.ndim != 4 or pages.shape[1:] != expected or not pages.is_contiguous():
        raise ValueError(
            f"pages must be contiguous [P, {shape.kv_heads}, {shape.page_size}, "
            f"{shape.head_dim}], got {list(pages.shape)}"
        )
