"""The six token-level workloads that every engine is measured on.

Greedy decoding; the end of the sequence is ignored, except in `json`, where the schema ends the
output. Knows nothing of how they are run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .corpus import Corpus

if TYPE_CHECKING:
    from collections.abc import Callable

    from furcate.runtime.tokenize.base import TextCodec

__all__ = ["TICKET", "TOKEN_WORKLOADS", "Counted", "TokenRequest", "TokenWorkload"]

Counted = Literal["input", "output"]  # the tokens that tokens a second counts

TICKET = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "kind": {"enum": ["function", "class", "module", "other"]},
        "arguments": {"type": "array", "items": {"type": "string", "maxLength": 24}, "maxItems": 4},
        "returns_value": {"type": "boolean"},
        "difficulty": {"type": "integer", "minimum": 1, "maximum": 5},
    },
    "required": ["name", "kind", "arguments", "returns_value", "difficulty"],
    "additionalProperties": False,
}
INSTRUCTION = "Describe the Python object in JSON."


@dataclass(frozen=True, slots=True)
class TokenRequest:
    ids: tuple[int, ...]
    max_tokens: int
    schema: str | None = None


@dataclass(frozen=True, slots=True)
class TokenWorkload:
    """`make` draws the requests; its number is how many there are at full scale, or fewer."""

    name: str
    counted: Counted
    num_requests: int
    make: Callable[[Corpus, int], list[TokenRequest]]

    def requests(self, codec: TextCodec, seed: int, scale: float = 1.0) -> list[TokenRequest]:
        return self.make(Corpus(codec, seed), max(1, round(self.num_requests * scale)))


def _single(corpus: Corpus, number: int) -> list[TokenRequest]:
    """One stream, decode-bound."""
    return [_request(corpus.ids(128), 128) for _ in range(number)]


def _prefill(corpus: Corpus, number: int) -> list[TokenRequest]:
    """Prompts that share nothing, one token each."""
    return [_request(corpus.ids(1024), 1) for _ in range(number)]


def _plain(corpus: Corpus, number: int) -> list[TokenRequest]:
    """Prompts that share nothing, a full decode batch."""
    return [_request(corpus.ids(corpus.random.randint(128, 256)), 64) for _ in range(number)]


def _fewshot(corpus: Corpus, number: int) -> list[TokenRequest]:
    """Questions behind one few-shot prefix, one token each."""
    prefix = corpus.ids(1024)
    return [_request(prefix + corpus.ids(64), 1) for _ in range(number)]


def _shared(corpus: Corpus, number: int) -> list[TokenRequest]:
    """Tasks behind one prefix, a short answer each."""
    prefix = corpus.ids(512)
    return [_request(prefix + corpus.ids(64), 32) for _ in range(number)]


def _json(corpus: Corpus, number: int) -> list[TokenRequest]:
    """Extraction with a schema behind one instruction."""
    requests = []
    for _ in range(number):
        text = corpus.random.choice(corpus.texts)[:600]
        ids = [*_turn(corpus.codec, "system", INSTRUCTION), *_turn(corpus.codec, "user", text)]
        ids += _turn(corpus.codec, "assistant")
        requests.append(_request(ids, 200, json.dumps(TICKET)))
    return requests


def _request(ids: list[int], max_tokens: int, schema: str | None = None) -> TokenRequest:
    return TokenRequest(tuple(ids), max_tokens, schema)


def _turn(codec: TextCodec, role: str, text: str | None = None) -> list[int]:
    """A turn as ChatML writes it; without a text it is left open."""
    begin = [codec.control("<|im_start|>"), *codec.encode(f"{role}\n{text or ''}")]
    return begin if text is None else [*begin, codec.control("<|im_end|>"), *codec.encode("\n")]


TOKEN_WORKLOADS = (
    TokenWorkload("single", "output", 1, _single),
    TokenWorkload("prefill", "input", 8, _prefill),
    TokenWorkload("plain", "output", 32, _plain),
    TokenWorkload("fewshot", "input", 64, _fewshot),
    TokenWorkload("shared", "output", 48, _shared),
    TokenWorkload("json", "output", 32, _json),
)
