"""The forward of `example.py` in double precision, without pages, batches and steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .example import EPS, frequencies

if TYPE_CHECKING:
    from .example import Layer, Model

__all__ = ["forward_reference"]


def forward_reference(model: Model, token_ids: list[int]) -> np.ndarray:
    """The logits behind every token of a sequence.  # float64 [T, vocab_size]"""
    table = model.table.data.astype(np.float64)
    x = table[token_ids]
    for layer in model.layers:
        x = x + _attention(model, layer, _norm(model, x))
        normed = _norm(model, x)
        gate, up = normed @ layer.gate.data.T, normed @ layer.up.data.T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ layer.down.data.T
    logits: np.ndarray = _norm(model, x) @ table.T
    return logits


def _norm(model: Model, x: np.ndarray) -> np.ndarray:
    scale = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + EPS)
    result: np.ndarray = x * scale * model.norm
    return result


def _attention(model: Model, layer: Layer, x: np.ndarray) -> np.ndarray:
    heads = model.shape.heads
    qkv = (x @ layer.qkv.data.T).reshape(len(x), -1, heads.head_dim)
    q, k, v = np.split(qkv, [heads.num_heads, heads.num_heads + heads.kv_heads], axis=1)
    group = heads.num_heads // heads.kv_heads
    k, v = _turned(k).repeat(group, axis=1), v.repeat(group, axis=1)
    scores = np.einsum("qhd,khd->hqk", _turned(q), k) * heads.head_dim**-0.5
    scores[:, ~np.tri(len(x), dtype=bool)] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    attended = np.einsum("hqk,khd->qhd", weights, v).reshape(len(x), -1)
    result: np.ndarray = attended @ layer.output.data.T
    return result


def _turned(x: np.ndarray) -> np.ndarray:
    """Rotary positions of heads whose halves make the pairs.  # [T, heads, head_dim]"""
    angles = np.arange(len(x))[:, None, None] * frequencies(x.shape[-1]).astype(np.float64)
    first, second = np.split(x, 2, axis=-1)
    cosine, sine = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)
