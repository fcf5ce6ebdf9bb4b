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
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    shape = plan.shape
    flat = _flatten_queries(queries, shape)  # [T * group + 1, kv_heads, head_dim]
    sums = torch.zeros_like(flat)
    weights = flat.new_ones(flat.shape[:2])
    # Where a window hides the first split from a row, its first one is merged into nothing.
    maxima = flat.new_full(flat.shape[:2], -torch.inf)
    for call in plan.calls:
        queries, keys, values = _operands(flat, key_pages, value_pages, call, shape, scratch)
        if softcap is None:
            out, log_sums = _attend_block(queries, keys, values, call.bias, scale)
        else:
            out, log_sums = _attend_capped(queries, keys, values, call.bias, scale, softcap)
        if call.is_first:
            sums.index_copy_(0, call.query_rows, out)
            maxima.index_copy_(0, call.query_rows, log_sums)
        else:
            _merge(sums, weights, maxima, call.query_rows, out, log_sums)
    if sinks is not None:
        weights += (_sink_of_each_row(sinks, shape, len(flat)) - maxima).exp_()
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


def _sink_of_each_row(sinks: Tensor, shape: AttentionShape, num_rows: int) -> Tensor:
    """[num_heads] as [T * group + 1, kv_heads]: the row at the end has none."""
    by_row = sinks.float().view(shape.kv_heads, shape.group).t()  # [group, kv_heads]
    every = by_row.repeat(num_rows // shape.group, 1)
    return torch.cat((every, every.new_full((1, shape.kv_heads), -torch.inf)))


def _operands(
    flat: Tensor,
    key_pages: Tensor,
    value_pages: Tensor,
    call: BlockCall,
    shape: AttentionShape,
    scratch: Scratch,
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a call: [B, kv_heads, query_tile or SPLIT, head_dim]."""
    keys = _gather("keys", key_pages, call, shape, scratch)
    values = keys
    if value_pages is not key_pages:
        values = _gather("values", value_pages, call, shape, scratch)
    queries = flat.index_select(0, call.query_rows)
    queries = queries.view(-1, shape.query_tile, shape.kv_heads, shape.head_dim).transpose(1, 2)
    num_tiles = queries.shape[0]
    return queries, keys.expand(num_tiles, -1, -1, -1), values.expand(num_tiles, -1, -1, -1)


def _attend_block(
    queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """The softmax over one split alone: its output and the logarithm of its sum, for each row."""
    out, log_sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        queries, keys, values, attn_mask=bias.expand(len(queries), -1, -1, -1), scale=scale
    )
    return _by_row(out), log_sums.transpose(1, 2).reshape(-1, out.shape[1])


def _attend_capped(
    queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor, scale: float, softcap: float
) -> tuple[Tensor, Tensor]:
    """The same over scores that went through softcap * tanh(score / softcap).

    Each product is one tile against one split, and none of them depends on how many there are."""
    num_tiles, kv_heads, tile, head_dim = queries.shape
    flat = (num_tiles * kv_heads, -1, head_dim)
    scores = torch.bmm(queries.reshape(flat), keys.reshape(flat).transpose(1, 2))
    scores = scores.mul_(scale / softcap).tanh_().mul_(softcap)
    scores = scores.view(num_tiles, kv_heads, tile, SPLIT).add_(bias)
    top = scores.amax(-1, keepdim=True)
    weights = scores.sub_(top).exp_()
    total = weights.sum(-1, keepdim=True)
    out = torch.bmm(weights.view(flat[0], tile, SPLIT), values.reshape(flat))
    out = out.view(num_tiles, kv_heads, tile, head_dim) / total
    log_sums = (total.log_() + top).squeeze(-1)
    return _by_row(out), log_sums.transpose(1, 2).reshape(-1, kv_heads)


def _by_row(out: Tensor) -> Tensor:
    """[B, kv_heads, query_tile, head_dim] as [B * query_tile, kv_heads, head_dim]."""
    return out.transpose(1, 2).reshape(-1, out.shape[1], out.shape[3])


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
