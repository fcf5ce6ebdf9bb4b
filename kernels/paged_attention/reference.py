"""Attention over pages in torch, on a plan of fixed shapes.

Every product is one tile of queries against SPLIT keys of one kv head. torch's CPU flash attention
computes such a block in one call and also returns the logarithm of the sum, which the merge needs;
its result for a query depends neither on the number of blocks nor on the place in the tile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .plan import SPLIT

if TYPE_CHECKING:
    from torch import Tensor

    from .plan import AttentionPlan, AttentionShape, BlockCall
    from .scratch import Scratch

__all__ = ["attend_reference", "copy_pages_reference", "write_kv_reference"]


def write_kv_reference(pages: Tensor, values: Tensor, slots: Tensor) -> None:
    head_dim = pages.shape[-1]
    pages.view(-1, head_dim).index_copy_(0, slots, values.to(pages.dtype).reshape(-1, head_dim))


def copy_pages_reference(pages: Tensor, sources: Tensor, targets: Tensor) -> None:
    rows = pages.view(-1, pages.shape[-1])
    rows.index_copy_(0, targets, rows.index_select(0, sources))


def attend_reference(
    queries: Tensor,
    key_pages: Tensor,
    value_pages: Tensor,
    plan: AttentionPlan,
    scale: float,
    scratch: Scratch,
) -> Tensor:
    shape = plan.shape
    flat = _flatten_queries(queries, shape)  # [T * group + 1, kv_heads, head_dim]
    sums = torch.zeros_like(flat)
    weights = flat.new_ones(flat.shape[:2])
    maxima = flat.new_zeros(flat.shape[:2])
    for call in plan.calls:
        out, log_sums = _attend_block(flat, key_pages, value_pages, call, shape, scale, scratch)
        if call.is_first:
            sums.index_copy_(0, call.query_rows, out)
            maxima.index_copy_(0, call.query_rows, log_sums)
        else:
            _merge(sums, weights, maxima, call.query_rows, out, log_sums)
    result = sums.div_(weights.unsqueeze(-1))[:-1]
    return (
        result.view(plan.num_tokens, shape.group, shape.kv_heads, shape.head_dim)
        .transpose(1, 2)
        .reshape(plan.num_tokens, shape.num_heads, shape.head_dim)
    )


def _flatten_queries(queries: Tensor, shape: AttentionShape) -> Tensor:
    """[T, num_heads, head_dim] as the queries of each kv head, and one row of zeros at the end."""
    num_tokens = queries.shape[0]
    flat = queries.new_empty(
        (num_tokens * shape.group + 1, shape.kv_heads, shape.head_dim), dtype=torch.float32
    )
    flat[:-1].view(num_tokens, shape.group, shape.kv_heads, shape.head_dim).copy_(
        queries.reshape(num_tokens, shape.kv_heads, shape.group, shape.head_dim).transpose(1, 2)
    )
    flat[-1] = 0.0
    return flat


def _attend_block(
    flat: Tensor,
    key_pages: Tensor,
    value_pages: Tensor,
    call: BlockCall,
    shape: AttentionShape,
    scale: float,
    scratch: Scratch,
) -> tuple[Tensor, Tensor]:
    """The softmax over one split alone: its output and the logarithm of its sum, for each row."""
    keys = _gather("keys", key_pages, call, shape, scratch)
    values = _gather("values", value_pages, call, shape, scratch)
    queries = flat.index_select(0, call.query_rows)
    queries = queries.view(-1, shape.query_tile, shape.kv_heads, shape.head_dim).transpose(1, 2)
    num_tiles = queries.shape[0]
    out, log_sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        queries,
        keys.expand(num_tiles, -1, -1, -1),
        values.expand(num_tiles, -1, -1, -1),
        attn_mask=call.bias.expand(num_tiles, -1, -1, -1),
        scale=scale,
    )
    return (
        out.transpose(1, 2).reshape(-1, shape.kv_heads, shape.head_dim),
        log_sums.transpose(1, 2).reshape(-1, shape.kv_heads),
    )


def _gather(
    name: str, pages: Tensor, call: BlockCall, shape: AttentionShape, scratch: Scratch
) -> Tensor:
    """The blocks' pages side by side, in float32 [U, kv_heads, SPLIT, head_dim]."""
    by_head = pages.view(-1, shape.page_size, shape.head_dim)
    size = (len(call.page_rows), shape.page_size, shape.head_dim)
    num_elements = len(call.page_rows) * shape.page_size * shape.head_dim
    stored = scratch.take(name, num_elements, pages.dtype).view(size)
    torch.index_select(by_head, 0, call.page_rows, out=stored)
    gathered = stored
    if pages.dtype != torch.float32:
        gathered = scratch.take(name, num_elements, torch.float32).view(size).copy_(stored)
    if call.unwritten is not None:
        gathered.view(-1, shape.head_dim).index_fill_(0, call.unwritten, 0.0)
    return gathered.view(-1, shape.kv_heads, SPLIT, shape.head_dim)


def _merge(
    sums: Tensor, weights: Tensor, maxima: Tensor, rows: Tensor, out: Tensor, log_sums: Tensor
) -> None:
    """Adds one split to the rows that see it; the splits before it are already there.

    The state of a row is sums / weights with every weight taken relative to exp(maxima), so nothing
    overflows and only exp, products and sums are needed.
    """
    old_maxima = maxima.index_select(0, rows)
    new_maxima = torch.maximum(old_maxima, log_sums)
    old_scale = (old_maxima - new_maxima).exp_()
    new_scale = (log_sums - new_maxima).exp_()
    merged = sums.index_select(0, rows).mul_(old_scale.unsqueeze(-1))
    merged.add_(out * new_scale.unsqueeze(-1))
    sums.index_copy_(0, rows, merged)
    weights.index_copy_(0, rows, weights.index_select(0, rows).mul_(old_scale).add_(new_scale))
    maxima.index_copy_(0, rows, new_maxima)
