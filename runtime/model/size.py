"""How large a model is: its parameters by its facts, and the bytes that they take when loaded.

Knows what the decoder's parts hold, and no tensor's content.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from furcate.kernels.linear.weight import is_block_type

from .config import AttentionConfig
from .gguf import read_header
from .safetensors import SafetensorsFolder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .config import DecoderConfig, ExpertsConfig, FeedForwardConfig, LatentConfig

__all__ = ["Parameters", "Stored", "count_parameters", "loaded_bytes", "read_stored"]

BLOCK = 32

# What native products keep of BLOCK values of a type: some are unpacked a little for speed.
PACKED_BYTES: Mapping[str, int] = MappingProxyType(
    {
        **{"Q4_0": 18, "Q4_1": 20, "Q5_0": 22, "Q5_1": 24, "Q8_0": 34},
        **{"Q2_K": 32, "Q3_K": 24, "Q4_K": 24, "Q5_K": 28, "Q6_K": 40},
    }
)


class Parameters(NamedTuple):
    """`active`: of those, what one token is multiplied with; fewer where there are experts."""

    total: int
    active: int


class Stored(NamedTuple):
    """A tensor in its file."""

    name: str
    type: str
    shape: tuple[int, ...]
    num_bytes: int

    @property
    def num_values(self) -> int:
        product = 1
        for size in self.shape:
            product *= size
        return product


def read_stored(path: Path) -> tuple[Stored, ...]:
    """By the headers alone."""
    if path.is_dir():
        return tuple(
            Stored(name, entry.dtype, entry.shape, entry.end - entry.start)
            for name, entry in SafetensorsFolder(path).entries()
        )
    tensors = read_header(path).tensors.values()
    return tuple(Stored(info.name, info.type, info.shape, info.num_bytes) for info in tensors)


def loaded_bytes(
    stored: Sequence[Stored], config: DecoderConfig, float_bytes: int, *, keeps_blocks: bool
) -> int:
    """Of the weights in memory, with `float_bytes` a number. `keeps_blocks`: tensors in blocks stay
    in blocks, which native products can read."""
    table = config.vocab_size * config.hidden_size
    # Packed for products a second time, beside the rows that are looked up.
    twice = table if config.tied_embeddings else 0
    in_blocks = [each for each in stored if is_block_type(each.type)] if keeps_blocks else []
    if not in_blocks:
        return (count_parameters(config).total + twice) * float_bytes
    total = 0
    for each in stored:
        packed = PACKED_BYTES.get(each.type)
        size = (
            each.num_values * float_bytes if packed is None else each.num_values // BLOCK * packed
        )
        if each.name == "token_embd.weight":
            total += each.num_bytes + (size if config.tied_embeddings else 0)
        else:
            total += size
    return total


def count_parameters(config: DecoderConfig) -> Parameters:
    hidden = config.hidden_size
    attention = (
        _attention(config.attention, hidden)
        if isinstance(config.attention, AttentionConfig)
        else _latent(config.attention, hidden)
    )
    tables = config.vocab_size * hidden * (1 if config.tied_embeddings else 2)
    norms = (4 if config.norms == "around" else 2) * hidden
    total = active = tables + hidden
    for layer in config.layers:
        experts = config.experts if layer.has_experts else None
        all_of_it = used = attention + norms
        if experts is None:
            size = _feed_forward(config.feed_forward, hidden)
            all_of_it, used = all_of_it + size, used + size
        else:
            all_of_it += _experts(experts, hidden, experts.count)
            used += _experts(experts, hidden, experts.used)
        total, active = total + all_of_it, active + used
    return Parameters(total, active)


def _attention(config: AttentionConfig, hidden: int) -> int:
    query, kv = config.num_heads * config.head_dim, config.kv_heads * config.head_dim
    total = hidden * (query + 2 * kv) + query * hidden
    total += (query + 2 * kv) * config.qkv_bias + hidden * config.output_bias
    total += config.num_heads * config.sinks
    if config.qk_norm == "none":
        return total
    return total + (2 * config.head_dim if config.qk_norm == "head" else query + kv)


def _latent(config: LatentConfig, hidden: int) -> int:
    query, rank = config.num_heads * config.query_dim, config.query_rank
    total = hidden * query if rank is None else hidden * rank + rank + rank * query
    total += hidden * (config.kv_rank + config.rope_dim) + config.kv_rank
    total += config.kv_rank * config.num_heads * (config.nope_dim + config.value_dim)
    total += config.num_heads * config.value_dim * hidden
    if config.bias:
        total += (0 if rank is None else rank) + config.kv_rank + config.rope_dim + hidden
    return total


def _feed_forward(config: FeedForwardConfig, hidden: int) -> int:
    return 3 * hidden * config.size + (2 * config.size + hidden) * config.bias


def _experts(config: ExpertsConfig, hidden: int, count: int) -> int:
    total = config.count * (hidden + config.router_bias + config.choice_bias)
    return total + count * _feed_forward(config.expert, hidden) + 3 * hidden * config.shared_size
