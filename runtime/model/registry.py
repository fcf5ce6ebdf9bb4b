"""Which families there are: by the `model_type` of a config.json, and by the architecture of a GGUF
file. A family is a module beside this one and a line here."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from . import (
    deepseek,
    gemma2,
    gemma3,
    gpt_oss,
    granite,
    llama,
    mistral,
    mixtral,
    olmo2,
    phi3,
    qwen2,
    qwen3,
    qwen3_moe,
    smollm3,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .config import DecoderConfig
    from .family import Family
    from .gguf import GGUFFile

__all__ = ["FAMILIES", "GGUF_ARCHITECTURES"]

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "llama": llama.FAMILY,
        "mistral": mistral.FAMILY,
        "qwen2": qwen2.FAMILY,
        "qwen3": qwen3.FAMILY,
        "gemma2": gemma2.FAMILY,
        "gemma3_text": gemma3.FAMILY,
        "gemma3": gemma3.FAMILY,
        "phi3": phi3.FAMILY,
        "smollm3": smollm3.FAMILY,
        "olmo2": olmo2.FAMILY,
        "granite": granite.FAMILY,
        "mixtral": mixtral.FAMILY,
        "qwen3_moe": qwen3_moe.FAMILY,
        "gpt_oss": gpt_oss.FAMILY,
        "deepseek_v2": deepseek.V2,
        "deepseek_v3": deepseek.V3,
    }
)

GGUF_ARCHITECTURES: Mapping[str, Callable[[GGUFFile], DecoderConfig]] = MappingProxyType(
    {"llama": llama.config_from_gguf}
)
