"""The numbers of a llama-family model, from a GGUF header or a transformers config.

Every number is checked here once; the rest of the model trusts them. Knows no tensor's contents
except the rope divisors, which GGUF stores as one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.errors import ModelFileError

from .quantized import dequantize
from .rope import llama3_divisors

if TYPE_CHECKING:
    from .gguf import GGUFFile

__all__ = ["LlamaConfig", "config_from_gguf", "config_from_hf"]

MAX_LAYERS = 1024
MAX_WIDTH = 1 << 20


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """Facts of one model. `rope_divisors` divide the rope frequencies one by one, if any."""

    vocab_size: int
    hidden_size: int
    ffn_size: int
    num_layers: int
    num_heads: int
    kv_heads: int
    head_dim: int
    max_context: int
    norm_eps: float
    rope_base: float
    rope_interleaved: bool
    rope_divisors: tuple[float, ...] = ()
    tied_embeddings: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "ffn_size", "num_heads", "kv_heads", "head_dim"):
            _check(name, getattr(self, name), 1, MAX_WIDTH)
        _check("num_layers", self.num_layers, 1, MAX_LAYERS)
        _check("max_context", self.max_context, 1, 2**31 - 1)
        if self.num_heads % self.kv_heads or self.kv_heads > self.num_heads:
            raise ModelFileError(
                f"the {self.num_heads} attention heads must be a multiple of the kv heads, "
                f"got {self.kv_heads!r}"
            )
        if self.head_dim % 2:
            raise ModelFileError(f"head_dim must be even, got {self.head_dim!r}")
        for name in ("norm_eps", "rope_base"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ModelFileError(f"{name} must be a positive number, got {value!r}")
        if self.rope_divisors and len(self.rope_divisors) != self.head_dim // 2:
            raise ModelFileError(
                f"there must be {self.head_dim // 2} rope divisors, got {len(self.rope_divisors)}"
            )
        if not all(math.isfinite(value) and value > 0 for value in self.rope_divisors):
            raise ModelFileError(f"rope divisors must be positive, got {self.rope_divisors!r:.200}")


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ModelFileError(f"{name} must be from {low} to {high}, got {value!r}")


def config_from_gguf(file: GGUFFile) -> LlamaConfig:
    """The config of a file whose architecture is llama or a name laid out alike."""
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
    return LlamaConfig(
        vocab_size=embedding.shape[0],
        hidden_size=hidden_size,
        ffn_size=number("feed_forward_length"),
        num_layers=number("block_count"),
        num_heads=num_heads,
        kv_heads=number("attention.head_count_kv", num_heads),
        head_dim=head_dim,
        max_context=number("context_length"),
        norm_eps=file.require(f"{architecture}.attention.layer_norm_rms_epsilon", float),
        rope_base=file.require(base_key, float) if base_key in file.metadata else 10_000.0,
        rope_interleaved=True,
        rope_divisors=_gguf_divisors(file, architecture, head_dim),
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


def config_from_hf(config: Mapping[str, object]) -> LlamaConfig:
    """The config of a transformers `LlamaConfig.to_dict()` or config.json."""
    for name in ("attention_bias", "mlp_bias"):
        if config.get(name):
            raise ModelFileError(
                f"{name} is {config[name]!r}; weights with a bias are not supported"
            )
    if config.get("hidden_act", "silu") != "silu":
        raise ModelFileError(f"hidden_act {config['hidden_act']!r} is not supported; use 'silu'")
    num_heads = _int(config, "num_attention_heads")
    head_dim = _int(config, "head_dim", _int(config, "hidden_size") // max(1, num_heads))
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise ModelFileError(f"rope_parameters must be a table, got {rope!r}")
    base = _float(rope, "rope_theta", _float(config, "rope_theta", 10_000.0))
    return LlamaConfig(
        vocab_size=_int(config, "vocab_size"),
        hidden_size=_int(config, "hidden_size"),
        ffn_size=_int(config, "intermediate_size"),
        num_layers=_int(config, "num_hidden_layers"),
        num_heads=num_heads,
        kv_heads=_int(config, "num_key_value_heads", num_heads),
        head_dim=head_dim,
        max_context=_int(config, "max_position_embeddings"),
        norm_eps=_float(config, "rms_norm_eps"),
        rope_base=base,
        rope_interleaved=False,
        rope_divisors=_hf_divisors(rope, base, head_dim),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
    )


def _hf_divisors(rope: Mapping[str, object], base: float, head_dim: int) -> tuple[float, ...]:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return ()
    if kind == "linear":
        return (_float(rope, "factor"),) * (head_dim // 2)
    if kind == "llama3":
        return llama3_divisors(
            base,
            head_dim,
            factor=_float(rope, "factor"),
            low_frequency_factor=_float(rope, "low_freq_factor"),
            high_frequency_factor=_float(rope, "high_freq_factor"),
            original_context=_int(rope, "original_max_position_embeddings"),
        )
    raise ModelFileError(
        f"rope_type {kind!r} is not supported; use 'default', 'linear' or 'llama3'"
    )


def _int(table: Mapping[str, object], key: str, default: int | None = None) -> int:
    value = table.get(key)
    if value is None and default is not None:
        return default
    if type(value) is not int:
        raise ModelFileError(f"{key!r} must be an integer, got {value!r}")
    return value


def _float(table: Mapping[str, object], key: str, default: float | None = None) -> float:
    value = table.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelFileError(f"{key!r} must be a number, got {value!r}")
    return float(value)
