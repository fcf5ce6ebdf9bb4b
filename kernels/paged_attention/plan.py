"""Which query meets which keys: the index arithmetic of one forward, done once and used by every
layer with the same window.

Positions are cut into splits of SPLIT keys at multiples of SPLIT. A *block* is the pages that hold
one split of one row; rows whose tables name the same pages there (branches of one prompt) share it.
The queries that see a block are laid out in tiles of one size, the model's. Knows rows and pages,
not whose they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SPLIT", "AttentionPlan", "AttentionShape", "BlockCall", "plan_attention"]

SPLIT = 256
# Products of fewer query rows take other paths through the matrix library, with other bits.
MIN_TILE = 4
# Keys and values gathered for one call stay in the caches of one core's share of L3.
GATHER_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Facts of the heads and the pages. Query heads h * group .. h * group + group - 1 read the
    keys of kv head h."""

    num_heads: int
    kv_heads: int
    head_dim: int
    page_size: int

    def __post_init__(self) -> None:
        if self.num_heads % self.kv_heads:
            raise ValueError(
                f"the query heads must be a multiple of the {self.kv_heads} kv heads, "
                f"got {self.num_heads}"
            )
        if self.page_size < 1 or SPLIT % self.page_size:
            raise ValueError(f"page_size must divide {SPLIT}, got {self.page_size!r}")

    @property
    def group(self) -> int:
        return self.num_heads // self.kv_heads

    @property
    def query_tile(self) -> int:
        """Query rows of every product: the queries of one token, filled up to whole MIN_TILEs."""
        return -(-self.group // MIN_TILE) * MIN_TILE


@dataclass(frozen=True, slots=True)
class BlockCall:
    """One batched product: B query tiles against U blocks of one split.

    Either each tile has its own block (U == B), or all tiles share one (U == 1). A query is a row
    of the flattened [T * group] queries of a kv head; the row past the end stands for padding.
    """

    is_first: bool
    page_rows: (
        Tensor  # int64 [U * kv_heads * pages a split]: rows of the pages seen as [P * H, ...]
    )
    unwritten: Tensor | None  # int64 [n]: rows of the gathered [U * kv_heads * SPLIT] to zero
    query_rows: Tensor  # int64 [B * query_tile]
    bias: Tensor  # float32 [B or 1, 1, query_tile, SPLIT]: 0 or -inf


@dataclass(frozen=True, slots=True)
class _Sight:
    """The part of one split that tokens see: keys up to their own, and with a window no more than
    so many of them."""

    first_key: int  # of the split
    positions: np.ndarray  # of the forward's tokens
    window: int | None

    @property
    def oldest(self) -> np.ndarray:
        """The oldest key that each token sees, counted from the split's first."""
        if self.window is None:
            return np.zeros_like(self.positions)
        oldest: np.ndarray = self.positions - (self.window - 1) - self.first_key
        return oldest

    @property
    def newest(self) -> np.ndarray:
        newest: np.ndarray = self.positions - self.first_key
        return newest

    def tokens(self, start: int, end: int) -> np.ndarray:
        """Those of a row's tokens start .. end - 1 that see a key of the split."""
        tokens: np.ndarray = np.arange(start, end)
        sees: np.ndarray = (self.newest[tokens] >= 0) & (self.oldest[tokens] < SPLIT)
        seeing: np.ndarray = tokens[sees]
        return seeing

    def is_whole(self, tokens: np.ndarray) -> np.ndarray:
        """Whether each token sees every key of the split."""
        whole: np.ndarray = (self.newest[tokens] >= SPLIT - 1) & (self.oldest[tokens] <= 0)
        return whole


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """Every index that a layer of one forward needs. `slots` says where the T tokens' keys go: rows
    of the pages seen as [P * kv_heads * page_size, head_dim]."""

    shape: AttentionShape
    num_tokens: int
    slots: Tensor  # int64 [T * kv_heads]
    calls: tuple[BlockCall, ...]


@dataclass(frozen=True, slots=True)
class _Block:
    """The pages of one split of one or more rows, and the tokens that see them."""

    page_ids: np.ndarray  # int64 [pages a split], unused entries repeat the first
    num_keys: int
    tokens: list[np.ndarray]


def plan_attention(
    shape: AttentionShape,
    positions: np.ndarray,
    row_starts: np.ndarray,
    kv_lens: np.ndarray,
    page_table: np.ndarray,
    window: int | None = None,
) -> AttentionPlan:
    """The plan of R rows with T tokens: arguments as in the contract of this operation."""
    calls: list[BlockCall] = []
    num_splits = -(-int(kv_lens.max(initial=0)) // SPLIT)
    for split in range(num_splits):
        sight = _Sight(split * SPLIT, positions.astype(np.int64), window)
        blocks = _blocks(shape, sight, row_starts, kv_lens, page_table)
        calls.extend(_calls(shape, sight, blocks))
    return AttentionPlan(
        shape=shape,
        num_tokens=len(positions),
        slots=_slots(shape, positions, row_starts, page_table),
        calls=tuple(calls),
    )


def _slots(
    shape: AttentionShape, positions: np.ndarray, row_starts: np.ndarray, page_table: np.ndarray
) -> Tensor:
    row_of_token = np.repeat(np.arange(len(row_starts) - 1), np.diff(row_starts))
    pages = page_table[row_of_token, positions // shape.page_size].astype(np.int64)
    heads = np.arange(shape.kv_heads)
    rows = (pages[:, None] * shape.kv_heads + heads) * shape.page_size
    return torch.from_numpy((rows + (positions % shape.page_size)[:, None]).reshape(-1))


def _blocks(
    shape: AttentionShape,
    sight: _Sight,
    row_starts: np.ndarray,
    kv_lens: np.ndarray,
    page_table: np.ndarray,
) -> list[_Block]:
    """The distinct blocks of one split. Equal pages hold equal keys, so rows are joined by them."""
    pages_per_split = SPLIT // shape.page_size
    first_key = sight.first_key
    first_page = first_key // shape.page_size
    blocks: dict[bytes, _Block] = {}
    for row in np.flatnonzero(kv_lens > first_key):
        start, end = int(row_starts[row]), int(row_starts[row + 1])
        num_keys = min(SPLIT, int(kv_lens[row]) - first_key)
        used = -(-num_keys // shape.page_size)
        page_ids = page_table[row, first_page : first_page + used].astype(np.int64)
        tokens = sight.tokens(start, end)
        if not len(tokens):
            continue
        key = page_ids.tobytes()
        block = blocks.get(key)
        if block is None or block.num_keys < num_keys:
            padded = np.full(pages_per_split, page_ids[0])
            padded[:used] = page_ids
            blocks[key] = _Block(padded, num_keys, block.tokens if block else [])
        blocks[key].tokens.append(tokens)
    return list(blocks.values())


def _calls(shape: AttentionShape, sight: _Sight, blocks: list[_Block]) -> list[BlockCall]:
    """Blocks with one tile of queries are stacked; a block with more has a call of its own."""
    block_bytes = 2 * 4 * shape.kv_heads * SPLIT * shape.head_dim
    limit = max(1, GATHER_BYTES // block_bytes)
    calls: list[BlockCall] = []
    for is_whole in (True, False):
        stack: list[_Block] = []
        for block in blocks:
            tokens = np.concatenate(block.tokens)
            tokens = tokens[sight.is_whole(tokens) == is_whole]
            if not len(tokens):
                continue
            part = _Block(block.page_ids, block.num_keys, [tokens])
            if len(tokens) * shape.group > shape.query_tile:
                calls.append(_call(shape, sight, [part], is_whole))
            else:
                stack.append(part)
        calls.extend(
            _call(shape, sight, stack[start : start + limit], is_whole)
            for start in range(0, len(stack), limit)
        )
    return calls


def _call(shape: AttentionShape, sight: _Sight, blocks: list[_Block], is_whole: bool) -> BlockCall:
    padding = len(sight.positions) * shape.group
    rows = np.concatenate([_query_rows(shape, block.tokens[0], padding) for block in blocks])
    page_ids = np.stack([block.page_ids for block in blocks])  # [U, pages a split]
    heads = np.arange(shape.kv_heads)[None, :, None]
    page_rows = page_ids[:, None, :] * shape.kv_heads + heads
    return BlockCall(
        is_first=sight.first_key == 0,
        page_rows=torch.from_numpy(page_rows.reshape(-1)),
        unwritten=_unwritten(shape, blocks),
        query_rows=torch.from_numpy(rows),
        bias=_bias(shape, sight, rows, is_whole),
    )


def _unwritten(shape: AttentionShape, blocks: list[_Block]) -> Tensor | None:
    """The gathered slots that no row of the block has written: what is left there from another
    sequence may be infinite, and a weight of zero would not stop that.

    Entries past the last page repeat the block's first page, which needs no zeros if it is full.
    """
    starts = np.array([block.num_keys for block in blocks])
    ends = -(-starts // shape.page_size) * shape.page_size
    ends[starts < shape.page_size] = SPLIT
    slots = np.arange(SPLIT)
    dead = (slots >= starts[:, None]) & (slots < ends[:, None])  # [U, SPLIT]
    if not dead.any():
        return None
    by_head = np.repeat(dead[:, None, :], shape.kv_heads, axis=1)
    return torch.from_numpy(np.flatnonzero(by_head))


def _query_rows(shape: AttentionShape, tokens: np.ndarray, padding: int) -> np.ndarray:
    rows = (tokens[:, None] * shape.group + np.arange(shape.group)).reshape(-1)
    num_padding = -len(rows) % shape.query_tile
    return np.concatenate((rows, np.full(num_padding, padding))).astype(np.int64)


def _bias(shape: AttentionShape, sight: _Sight, rows: np.ndarray, is_whole: bool) -> Tensor:
    """What to add to the scores. A sum with zeros stays even where every key is seen: without it
    the library would scale after the subtraction of the maximum, and the bits would differ."""
    if is_whole:
        return torch.zeros((1, 1, shape.query_tile, SPLIT))
    # A row of padding sees everything, so that its softmax is a number.
    newest = np.append(sight.newest, SPLIT)[rows // shape.group][:, None]
    oldest = np.append(sight.oldest, 0)[rows // shape.group][:, None]
    keys = np.arange(SPLIT)
    bias = np.where((oldest <= keys) & (keys <= newest), np.float32(0), np.float32(-np.inf))
    return torch.from_numpy(bias).view(-1, 1, shape.query_tile, SPLIT)
