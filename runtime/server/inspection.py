"""What a model is and whether this machine can run it, from headers and configs alone.

Puts together what other parts know; no tensor is read and nothing is compiled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.errors import ModelFileError, TemplateError
from furcate.kernels.build import plan
from furcate.kernels.library import available_tiers
from furcate.runtime.graph.markers import model_markers
from furcate.runtime.memory import available_bytes
from furcate.runtime.model.catalog import cache_home, resolve
from furcate.runtime.model.checkpoint import read_config
from furcate.runtime.model.gguf import read_header
from furcate.runtime.model.load import why_not_native
from furcate.runtime.model.quantized import DEQUANTIZERS
from furcate.runtime.model.registry import FAMILIES
from furcate.runtime.model.safetensors import DTYPES
from furcate.runtime.model.shards import read_json
from furcate.runtime.model.size import count_parameters, read_stored

from .room import room_for
from .text import check_vocabulary, load_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from furcate.runtime.config import Config, EngineConfig
    from furcate.runtime.model.config import DecoderConfig
    from furcate.runtime.model.size import Stored
    from furcate.runtime.tokenize.base import TextCodec
    from furcate.runtime.tokenize.template import ChatTemplate

    from .room import Room
    from .text import Text

__all__ = [
    "Inspection",
    "KVPlan",
    "MemoryPlan",
    "TemplateFacts",
    "TokenizerFacts",
    "inspect_model",
]

STREAM_TOKENS = 4096  # of the streams that are counted
ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    kind: str
    vocab_size: int
    control_tokens: int
    begins_with: str | None
    ends_with: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """`roles`: those that a conversation may have. `reasoning`: what stands around thoughts."""

    roles: tuple[str, ...]
    reasoning: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class KVPlan:
    """One `--kv-dtype`: the longest context of one stream, and how many streams of STREAM_TOKENS
    fit, in what weights leave of the memory. None where nothing tells how much there is."""

    dtype: str
    bytes_per_token: int
    longest_context: int | None
    streams_of_4096: int | None


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    weights_bytes: int
    loading_bytes: int  # besides, while it loads
    available_bytes: int | None
    kv: tuple[KVPlan, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    name: str
    path: str
    architecture: str
    family: str
    adds: str  # to a llama
    parameters: int
    active_parameters: int
    stored: Mapping[str, int]  # type to number of values
    file_bytes: int
    layers: int
    hidden_size: int
    context: int
    tokenizer: TokenizerFacts
    template: TemplateFacts | None
    kernels: str
    why_reference: str | None
    memory: MemoryPlan
    unsupported: tuple[str, ...]


def inspect_model(config: Config) -> Inspection:
    """The model of a configuration, which must be here. ModelError and ModelFileError as where it
    is served."""
    name = config.model.name
    path = resolve(name)
    model = read_config(path, long_rope=config.model.long_rope)
    stored = read_stored(path)
    text = load_text(config.model)
    tier, why_reference = _kernels(path, config.engine)
    architecture, family, adds = _family(path)
    parameters = count_parameters(model)
    return Inspection(
        name=name,
        path=str(path),
        architecture=architecture,
        family=family,
        adds=adds,
        parameters=parameters.total,
        active_parameters=parameters.active,
        stored=_by_type(stored),
        file_bytes=sum(each.num_bytes for each in stored),
        layers=model.num_layers,
        hidden_size=model.hidden_size,
        context=model.max_context,
        tokenizer=_tokenizer_facts(path, text.codec),
        template=None if text.template is None else _template_facts(text.template, text.codec),
        kernels="reference" if tier is None else f"native, {tier}",
        why_reference=why_reference,
        memory=_memory(room_for(path, config, tier), model, available_bytes()),
        unsupported=tuple(_unsupported(path, model, stored, text)),
    )


def _kernels(path: Path, config: EngineConfig) -> tuple[str | None, str | None]:
    """The tier of the native kernels that would run it; or None, and why none would."""
    if config.kernels == "reference":
        return None, "--kernels reference"
    reason = why_not_native(path)
    if reason is not None:
        return None, f"native kernels cannot run {reason}"
    tier = available_tiers()[0] if config.kernels == "auto" else config.kernels
    wanted = plan(tier, cache_home() / "kernels")
    if wanted.compiler is None and wanted.built() is None:
        return None, "native kernels have to be compiled, and there is no C++ compiler"
    return tier, None


def _family(path: Path) -> tuple[str, str, str]:
    if path.is_dir():
        model_type = str(read_json(path / "config.json")["model_type"])
        family = FAMILIES[model_type]
        return model_type, family.title, family.adds
    architecture = read_header(path).require("general.architecture", str)
    known = FAMILIES.get(architecture)
    return architecture, known.title if known else architecture, known.adds if known else "—"


def _by_type(stored: Sequence[Stored]) -> dict[str, int]:
    """Most values first."""
    counts: dict[str, int] = {}
    for each in stored:
        counts[each.type] = counts.get(each.type, 0) + each.num_values
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _tokenizer_facts(path: Path, codec: TextCodec) -> TokenizerFacts:
    names = {token_id: name for name, token_id in codec.control_names.items()}
    return TokenizerFacts(
        kind=_tokenizer_kind(path),
        vocab_size=codec.vocab_size,
        control_tokens=len(names),
        begins_with=names.get(codec.bos_id or 0) if codec.adds_bos else None,
        ends_with=tuple(names.get(end, f"token {end}") for end in sorted(codec.eos_ids)),
    )


def _tokenizer_kind(path: Path) -> str:
    if not path.is_dir():
        return f"{read_header(path).metadata.get('tokenizer.ggml.model')} of the GGUF file"
    rules = read_json(path / "tokenizer.json")["model"]
    kind = rules.get("type", "BPE") if isinstance(rules, dict) else "BPE"
    return f"{kind} of tokenizer.json"


def _template_facts(template: ChatTemplate, codec: TextCodec) -> TemplateFacts:
    past = {"assistant": ("user",), "tool": ("user", "assistant")}
    roles = tuple(role for role in ROLES if _has_role(template, role, past.get(role, ())))
    markers = model_markers(codec)
    reasoning = None if markers is None else (markers.begin.text, markers.end.text)
    return TemplateFacts(roles, reasoning)


def _has_role(template: ChatTemplate, role: str, past: Sequence[str]) -> bool:
    from furcate.runtime.tokenize.turns import Turn

    turns: tuple[Turn, ...] = tuple(Turn(each) for each in past)
    try:
        return template.edges(turns, role, "append").refusal is None
    except TemplateError:
        return False


def _memory(room: Room, model: DecoderConfig, available: int | None) -> MemoryPlan:
    left = None if available is None else max(0, available - room.weights)
    kv = tuple(
        KVPlan(
            dtype,
            size,
            None if left is None else min(model.max_context, left // size),
            None if left is None else left // (size * STREAM_TOKENS),
        )
        for dtype, size in room.kv_bytes_per_token.items()
    )
    return MemoryPlan(room.weights, room.passing, available, kv)


def _unsupported(
    path: Path, model: DecoderConfig, stored: Sequence[Stored], text: Text
) -> list[str]:
    known = DTYPES if path.is_dir() else DEQUANTIZERS
    found = [
        f"tensors stored as {kind} are not read; take a file with {', '.join(known)}"
        for kind in _by_type(stored)
        if kind not in known
    ]
    try:
        check_vocabulary(text.codec, model.vocab_size)
    except ModelFileError as error:
        found.append(str(error))
    if text.template is None:
        found.append("conversations: there is no chat template; programs write text without roles")
    if path.is_dir():
        settings = read_json(path / "config.json")
        declared = settings.get("max_position_embeddings")
        if isinstance(declared, int) and declared > model.max_context:
            found.append(
                f"contexts above {model.max_context} tokens, of {declared}: what rope does there "
                "depends on what comes after; --long-rope may serve them"
            )
        if "vision_config" in settings:
            found.append("pictures: the text part alone is run")
    return found
