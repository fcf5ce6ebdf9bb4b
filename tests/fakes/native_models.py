"""Native models of files that tests write, and what they compute for rows of tokens."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from tests.kernels.native import library

from furcate.kernels.library import Pool
from furcate.runtime.model.config import AttentionConfig
from furcate.runtime.model.decoder_native import load_native_decoder
from furcate.runtime.model.gguf import read_header
from furcate.runtime.model.llama import config_from_gguf
from furcate.runtime.model.weights import GGUFTensors
from furcate.runtime.scheduler.plan import StepPlan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from furcate.kernels.structures import KVType
    from furcate.runtime.engine.batch import ForwardBatch, Model, PageCopy
    from furcate.runtime.model.config import DecoderConfig
    from furcate.runtime.model.native import NativeModel
    from furcate.runtime.model.native_weights import Matmul

__all__ = [
    "PAGE_SIZE",
    "Row",
    "batch_of",
    "logits_of",
    "native_model",
    "random_ids",
    "with_extras",
    "with_pairs",
]

PAGE_SIZE = 16


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Tokens of a sequence from position `begin` on, with logits for all of them."""

    ids: np.ndarray
    begin: int
    pages: Sequence[int]


def random_ids(count: int, vocab_size: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, vocab_size, count).astype(np.int32)


def batch_of(rows: Sequence[Row], copies: Sequence[PageCopy] = ()) -> ForwardBatch:
    plan = StepPlan(step=1, budget_tokens=1 << 20)
    for row in rows:
        plan.add_row(row.ids.tolist(), row.begin, np.array(row.pages, np.int32), len(row.ids))
    plan.add_copies(copies)
    return plan.batch()


def logits_of(
    model: Model, rows: Sequence[Row], copies: Sequence[PageCopy] = ()
) -> list[np.ndarray]:
    """The logits of every token of each row, computed in one forward."""
    logits = model.forward(batch_of(rows, copies)).numpy()
    return np.split(logits, np.cumsum([len(row.ids) for row in rows])[:-1])


def with_pairs(config: DecoderConfig, interleaved: bool) -> DecoderConfig:
    """The config with every rotated pair side by side, or half a head apart."""
    layers = [
        replace(layer, rope=layer.rope and replace(layer.rope, interleaved=interleaved))
        for layer in config.layers
    ]
    return replace(config, layers=tuple(layers))


def with_extras(config: DecoderConfig) -> DecoderConfig:
    """The config with biases in every product and norms of every query and key head."""
    assert isinstance(config.attention, AttentionConfig)
    attention = replace(config.attention, qkv_bias=True, output_bias=True, qk_norm="head")
    return replace(
        config, attention=attention, feed_forward=replace(config.feed_forward, bias=True)
    )


@contextmanager
def native_model(
    path: Path,
    tier: str,
    *,
    num_threads: int = 2,
    matmul: Matmul = "auto",
    kv_type: KVType = "bf16",
    interleaved: bool = True,
    extras: bool = False,
    num_pages: int | None = 128,
    page_size: int = PAGE_SIZE,
) -> Iterator[NativeModel]:
    """The model in a file, ready for forwards unless `num_pages` is None; closed at the end."""
    file = read_header(path)
    config = with_pairs(config_from_gguf(file), interleaved)
    if extras:
        config = with_extras(config)
    pool = Pool(library(tier), num_threads)
    try:
        model = load_native_decoder(config, GGUFTensors(file), pool, matmul, kv_type)
        if num_pages is not None:
            model.allocate(num_pages, page_size)
        try:
            yield model
        finally:
            model.close()
    finally:
        pool.close()
