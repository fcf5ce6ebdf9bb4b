"""A llama forward in numpy that rounds where the native kernels round, and nowhere else.

Products of stored blocks are the kernels' law itself; everything between is exact, then rounded to
the form in which it is kept. So a native forward differs from it by the noise of float32 alone. It
knows one sequence, no pages and no batch, and is not meant to be fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from furcate.kernels.elementwise.reference import quantise_rows_reference
from furcate.kernels.linear.blocks import BLOCK_LAYOUTS, blocks_of
from furcate.kernels.linear.quantized import multiply_blocks
from furcate.runtime.model.config import AttentionConfig
from furcate.runtime.model.rope import rope_frequencies

if TYPE_CHECKING:
    from collections.abc import Mapping

    from furcate.kernels.structures import KVType
    from furcate.runtime.model.config import DecoderConfig

    from .checkpoints import StoredTensor

__all__ = ["LlamaForward", "round_to_bf16"]

SPLIT = 256  # keys that share a maximum


def round_to_bf16(values: np.ndarray) -> np.ndarray:
    """To the nearest bfloat16, halves to even, as float32."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


def weight_of(scores: np.ndarray) -> np.ndarray:
    """exp of numbers that are not positive, as attention takes it: a polynomial of the third degree
    that is off by 1e-4, a twentieth of what rounding to bfloat16 adds."""
    powers = np.maximum(scores * np.log2(np.e), -127.0)
    whole = np.rint(powers)
    rest = powers - whole
    return np.ldexp(
        ((0.055008948 * rest + 0.242211) * rest + 0.6932829) * rest + 1.0, whole.astype(np.int32)
    )


@dataclass(frozen=True, slots=True)
class LlamaForward:
    """Matrices that are stored in blocks multiply int8 rows where `reads_blocks`; all others
    multiply rows in `floats`."""

    config: DecoderConfig
    tensors: Mapping[str, StoredTensor]
    reads_blocks: bool
    floats: Literal["f32", "bf16"]
    kv_type: KVType = "bf16"

    @property
    def heads(self) -> AttentionConfig:
        assert isinstance(self.config.attention, AttentionConfig)
        return self.config.attention

    def logits(self, token_ids: np.ndarray) -> np.ndarray:
        """Those of every token of one sequence.  # float32 [T, vocab_size]"""
        config = self.config
        hidden = self.tensors["token_embd.weight"].values[token_ids].astype(np.float32)
        for layer in range(config.num_layers):
            block = f"blk.{layer}."
            normed = self._norm(hidden, f"{block}attn_norm.weight")
            qkv = self._product(normed, *(f"{block}attn_{part}.weight" for part in "qkv"))
            attended = self._attend(qkv)
            hidden = hidden + self._product(attended, f"{block}attn_output.weight")
            normed = self._norm(hidden, f"{block}ffn_norm.weight")
            gate_up = self._product(normed, f"{block}ffn_gate.weight", f"{block}ffn_up.weight")
            gate, up = np.split(gate_up.astype(np.float64), 2, axis=1)
            gated = (gate / (1 + np.exp(-gate)) * up).astype(np.float32)
            hidden = hidden + self._product(gated, f"{block}ffn_down.weight")
        head = "token_embd.weight" if config.tied_embeddings else "output.weight"
        return self._product(self._norm(hidden, "output_norm.weight"), head)

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        exact = x.astype(np.float64)
        mean = (exact**2).mean(axis=1, keepdims=True)
        normed = exact / np.sqrt(mean + self.config.norm_eps) * self.tensors[name].values
        return normed.astype(np.float32)

    def _product(self, x: np.ndarray, *names: str) -> np.ndarray:
        """With several matrices side by side, in the numbers that suit all of them."""
        parts = [self.tensors[name] for name in names]
        if self.reads_blocks and all(part.kind in BLOCK_LAYOUTS for part in parts):
            rows = quantise_rows_reference(x)
            products = [
                multiply_blocks(
                    rows,
                    blocks_of(part.kind, part.data.reshape(-1), (len(part.data), x.shape[1])),
                )
                for part in parts
            ]
        else:
            rounded = round_to_bf16 if self.floats == "bf16" else np.asarray
            products = [
                rounded(x).astype(np.float64) @ rounded(part.values).astype(np.float64).T
                for part in parts
            ]
        return np.concatenate(products, axis=1).astype(np.float32)

    def _attend(self, qkv: np.ndarray) -> np.ndarray:
        config, num_tokens = self.heads, len(qkv)
        group = config.num_heads // config.kv_heads
        heads = qkv.reshape(num_tokens, -1, config.head_dim)
        q, k, v = np.split(heads, [config.num_heads, config.num_heads + config.kv_heads], axis=1)
        q = round_to_bf16(self._rotate(q)).astype(np.float64)
        keys, key_scales = self._stored(self._rotate(k))
        values, value_scales = self._stored(v)
        out = np.empty_like(q)
        for head in range(config.num_heads):
            kv = head // group
            scores = q[:, head] @ (keys[:, kv] * key_scales[:, kv]).T * config.scale
            scores[np.triu_indices(num_tokens, 1)] = -np.inf
            out[:, head] = self._weigh(scores, values[:, kv], value_scales[:, kv])
        return out.reshape(num_tokens, -1).astype(np.float32)

    def _weigh(self, scores: np.ndarray, values: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """Softmax of [T, T] over splits, weights rounded relative to their split's maximum."""
        tops = scores.max(axis=1, keepdims=True)
        sums, total = np.zeros((len(scores), values.shape[1])), np.zeros((len(scores), 1))
        for start in range(0, scores.shape[1], SPLIT):
            keys = slice(start, start + SPLIT)
            top = scores[:, keys].max(axis=1, keepdims=True)
            sees = np.isfinite(top)
            top = np.where(sees, top, 0)
            weights = weight_of(scores[:, keys] - top)
            rounded = round_to_bf16(weights * scales[keys].T).astype(np.float64)
            share = np.where(sees, np.exp(top - tops), 0)
            sums += share * (rounded @ values[keys])
            weighed = rounded if self.kv_type == "bf16" else weights
            total += share * weighed.sum(axis=1, keepdims=True)
        return sums / total

    def _stored(self, heads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keys or values [T, heads, head_dim] as pages keep them, and their scales [T, heads, 1];
        scales are 1 in bfloat16."""
        if self.kv_type == "bf16":
            return round_to_bf16(heads).astype(np.float64), np.ones((*heads.shape[:2], 1))
        largest = np.abs(heads).max(axis=-1, keepdims=True)
        codes = np.rint(heads * (np.float32(127) / largest)).astype(np.float64)
        return codes, (largest / np.float32(127)).astype(np.float64)

    def _rotate(self, heads: np.ndarray) -> np.ndarray:
        rope = self.config.layers[0].rope
        assert rope is not None
        angles = np.arange(len(heads))[:, None] * rope_frequencies(rope).numpy().astype(np.float64)
        turns = np.exp(1j * angles)[:, None, :]
        out = np.empty(heads.shape)
        half = rope.size // 2
        first = slice(0, None, 2) if rope.interleaved else slice(0, half)
        second = slice(1, None, 2) if rope.interleaved else slice(half, None)
        turned = (heads[..., first] + 1j * heads[..., second]) * turns
        out[..., first], out[..., second] = turned.real, turned.imag
        return out.astype(np.float32)
