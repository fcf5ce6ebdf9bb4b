"""Llama 2 and 3, and what is laid out alike: the decoder without extras.

In GGUF files pairs of rotated dimensions lie side by side, in transformers' half a head apart.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from furcate.errors import ModelFileError

from .config import AttentionConfig, DecoderConfig, FeedForwardConfig, LayerConfig, RopeConfig
from .family import Family
from .hf_decoder import read_attention, read_decoder, read_layers
from .hf_names import HFNames
from .quantized import dequantize

if TYPE_CHECKING:
    from .gguf import GGUFFile
    from .hf_config import HFConfig

__all__ = ["FAMILY", "config_from_gguf"]


def _config(config: HFConfig) -> DecoderConfig:
    return read_decoder(config, read_layers(config), read_attention(config))


FAMILY = Family("Llama 2, Llama 3", "—", _config, lambda _: HFNames())


def config_from_gguf(file: GGUFFile) -> DecoderConfig:
    """The config of a GGUF file whose architecture is llama."""
    architecture = file.require("general.architecture", str)

    def number(key: str, default: int | None = None) -> int:
        name = f"{architecture}.{key}"
        return (
            default
            if default is not None and name not in file.metadata
            else file.require(name, int)
        )

    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise ModelFileError(f"{file.path}: there is no tensor 'token_embd.weight' of a matrix")
    num_experts = number("expert_count", 0)
    if num_experts > 0:
        raise ModelFileError(
            f"{file.path}: {architecture}.expert_count is {num_experts}; experts are not read from "
            "GGUF files: use the model's transformers folder"
        )
    num_heads = number("attention.head_count")
    hidden_size = number("embedding_length")
    head_dim = number("attention.key_length", hidden_size // max(1, num_heads))
    for key, value in (
        ("attention.value_length", number("attention.value_length", head_dim)),
        ("rope.dimension_count", number("rope.dimension_count", head_dim)),
    ):
        if value != head_dim:
            raise ModelFileError(
                f"{file.path}: {architecture}.{key} is {value!r}, only heads of one size "
                f"({head_dim}), rotated whole, are supported"
            )
    base_key = f"{architecture}.rope.freq_base"
    base = file.require(base_key, float) if base_key in file.metadata else 10_000.0
    divisors = _gguf_divisors(file, architecture, head_dim)
    rope = RopeConfig(base, head_dim, interleaved=True, divisors=divisors)
    return DecoderConfig(
        vocab_size=embedding.shape[0],
        hidden_size=hidden_size,
        max_context=number("context_length"),
        norm_eps=file.require(f"{architecture}.attention.layer_norm_rms_epsilon", float),
        attention=AttentionConfig(
            num_heads=num_heads,
            kv_heads=number("attention.head_count_kv", num_heads),
            head_dim=head_dim,
            scale=1.0 / math.sqrt(max(1, head_dim)),
            qkv_bias="blk.0.attn_q.bias" in file.tensors,
            output_bias="blk.0.attn_output.bias" in file.tensors,
        ),
        feed_forward=FeedForwardConfig(
            number("feed_forward_length"), bias="blk.0.ffn_up.bias" in file.tensors
        ),
        layers=(LayerConfig(rope),) * number("block_count"),
        tied_embeddings="output.weight" not in file.tensors,
    )


def _gguf_divisors(file: GGUFFile, architecture: str, head_dim: int) -> tuple[float, ...]:
    info = file.tensors.get("rope_freqs.weight")
    if info is not None:
        return tuple(dequantize(info, file.raw(info.name)).reshape(-1).tolist())
    key = f"{architecture}.rope.scaling.type"
    kind = file.metadata.get(key, "none")
    if kind == "none":
        return ()
    if kind == "linear":
        factor = file.require(f"{architecture}.rope.scaling.factor", float)
        return (factor,) * (head_dim // 2)
    raise ModelFileError(f"{file.path}: {key} {kind!r} is not supported; use 'none' or 'linear'")
