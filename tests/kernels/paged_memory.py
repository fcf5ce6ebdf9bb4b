"""Pages with the tokens of made-up sequences, attention over them, and the formula it follows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from furcate.kernels.paged_attention import (
    AttentionShape,
    attend,
    copy_pages,
    plan_attention,
    plan_copies,
    write_kv,
)

__all__ = ["PAGE", "SHAPE", "Memory", "Row", "naive", "pages_of"]

PAGE = 16
SHAPE = AttentionShape(num_heads=6, kv_heads=2, head_dim=16, page_size=PAGE)


@dataclass
class Row:
    """Tokens first..end of sequence `sequence`, whose pages are `pages`."""

    sequence: int
    first: int
    end: int
    pages: list[int]


@dataclass
class Memory:
    """Pages, and the keys, values and queries that sequences have at their positions."""

    shape: AttentionShape = SHAPE
    dtype: torch.dtype = torch.float32
    num_pages: int = 128
    window: int | None = None
    softcap: float | None = None
    sinks: torch.Tensor | None = None  # [num_heads]
    values_are_keys: bool = False
    keys: torch.Tensor = field(init=False)
    values: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        size = (self.num_pages, self.shape.kv_heads, self.shape.page_size, self.shape.head_dim)
        # Stale contents of the worst kind: they must not reach any result.
        self.keys = torch.full(size, torch.nan, dtype=self.dtype)
        self.values = torch.full(size, torch.inf, dtype=self.dtype)
        if self.values_are_keys:
            self.values = self.keys

    def inputs(self, row: Row) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(row.sequence)
        heads = self.shape.num_heads + 2 * self.shape.kv_heads
        tokens = torch.randn(1024, heads, self.shape.head_dim, generator=generator).to(self.dtype)
        q, k, v = tokens[row.first : row.end].split(
            [self.shape.num_heads, self.shape.kv_heads, self.shape.kv_heads], dim=1
        )
        return 3 * q, k, k if self.values_are_keys else v

    def run(self, rows: list[Row], copies: tuple[tuple[int, int, int], ...] = ()) -> list:
        table = np.zeros((len(rows), max(len(row.pages) for row in rows)), np.int32)
        for index, row in enumerate(rows):
            table[index, : len(row.pages)] = row.pages
        lengths = [row.end - row.first for row in rows]
        positions = np.concatenate([np.arange(row.first, row.end) for row in rows])
        plan = plan_attention(
            self.shape,
            positions.astype(np.int32),
            np.cumsum([0, *lengths]).astype(np.int32),
            np.array([row.end for row in rows], np.int32),
            table,
            self.window,
        )
        q, k, v = (torch.cat(parts) for parts in zip(*map(self.inputs, rows), strict=True))
        write_kv(self.keys, k, plan)
        write_kv(self.values, v, plan)
        steps = plan_copies(self.shape, copies)
        copy_pages(self.keys, steps)
        copy_pages(self.values, steps)
        scale = self.shape.head_dim**-0.5
        result = attend(
            q, self.keys, self.values, plan, scale, softcap=self.softcap, sinks=self.sinks
        )
        return list(result.split(lengths))


def naive(memory: Memory, sequence: int, end: int) -> torch.Tensor:
    q, k, v = (part.double() for part in memory.inputs(Row(sequence, 0, end, [])))
    k, v = (part.repeat_interleave(memory.shape.group, dim=1) for part in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) * memory.shape.head_dim**-0.5
    if memory.softcap is not None:
        scores = memory.softcap * torch.tanh(scores / memory.softcap)
    hidden = torch.ones(end, end).triu(1)
    if memory.window is not None:
        hidden += torch.ones(end, end).tril(-memory.window)
    scores = scores.masked_fill(hidden.bool(), -torch.inf)
    if memory.sinks is not None:
        sinks = memory.sinks.double()[:, None, None].expand(-1, end, 1)
        weights = torch.cat((scores, sinks), dim=-1).softmax(-1)[..., :-1]
    else:
        weights = scores.softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, v)


def pages_of(num_tokens: int, first: int = 0, page_size: int = PAGE) -> list[int]:
    return list(range(first, first + -(-num_tokens // page_size)))
