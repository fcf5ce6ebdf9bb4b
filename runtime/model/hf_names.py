"""Where a tensor is in a transformers checkpoint, by the name that it has here.

The names here are those of GGUF files; a single expert's tensor has its number before the last
part, as in `blk.3.ffn_gate.7.weight`. A family says what it calls them, and where a tensor is only
a part of one that is stored. Knows no tensor's contents.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from furcate.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

__all__ = [
    "EXPERT_NAMES",
    "LLAMA_NAMES",
    "HFNames",
    "Part",
    "Place",
    "Take",
    "prefix_of",
    "rows",
    "whole",
]

Take = Callable[["Tensor", int], "Tensor"]  # of a stored tensor what is asked for, by the expert

_NAME = re.compile(r"(?:blk\.(\d+)\.)?([a-z_]+)(?:\.(\d+))?\.(weight|bias)")
# Before the names of layers, in checkpoints of a text model, and of a text model within another.
_PREFIXES = ("model.", "language_model.model.", "model.language_model.")
_EMBEDDING = "embed_tokens.weight"


class Part(NamedTuple):
    """A part of the stored tensor `stem`, whose name is complete unless it `has_suffix`."""

    stem: str
    take: Take
    has_suffix: bool = True


Names = Mapping[str, str | Part]

LLAMA_NAMES: Names = MappingProxyType(
    {
        "token_embd": "embed_tokens",
        "output_norm": "norm",
        "output": "lm_head",
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
)

EXPERT_NAMES: Names = MappingProxyType(
    {
        "ffn_gate": "mlp.experts.{expert}.gate_proj",
        "ffn_up": "mlp.experts.{expert}.up_proj",
        "ffn_down": "mlp.experts.{expert}.down_proj",
    }
)


class Place(NamedTuple):
    """A stored tensor's name, and what to take of it."""

    name: str
    is_whole_name: bool  # else a prefix goes before it
    part: Take | None
    expert: int


@dataclass(frozen=True, slots=True)
class HFNames:
    """A family's names: of tensors outside of layers, of those in layers, and of experts', in which
    `{expert}` stands for the number."""

    names: Names = field(default_factory=lambda: LLAMA_NAMES)
    experts: Names = field(default_factory=dict)

    def find(self, name: str) -> Place:
        match = _NAME.fullmatch(name)
        layer, stem, expert, suffix = match.groups() if match else (None, name, None, "")
        known = self.names if expert is None else self.experts
        stored = known.get(f"{stem}.{suffix}", known.get(stem))
        if stored is None:
            raise ModelFileError(f"a checkpoint of this family has no tensor called {name!r}")
        part = stored if isinstance(stored, Part) else None
        target = stored.stem if isinstance(stored, Part) else stored
        if part is None or part.has_suffix:
            target = f"{target}.{suffix}"
        number = -1 if expert is None else int(expert)
        block = "" if layer is None else f"layers.{layer}."
        return Place(
            block + target.replace("{expert}", str(number)),
            target.startswith("lm_head."),
            part.take if part else None,
            number,
        )


def rows(first: int, count: int) -> Take:
    """Rows of a stored matrix or entries of a vector that holds several, one on another."""
    return lambda tensor, _: tensor[first : first + count]


def whole(tensor: Tensor, _: int) -> Tensor:
    return tensor


def prefix_of(names: Iterable[str]) -> str:
    """What stands before the names of a checkpoint's layers."""
    known = set(names)
    found = [prefix for prefix in _PREFIXES if prefix + _EMBEDDING in known]
    return found[0] if found else _PREFIXES[0]
