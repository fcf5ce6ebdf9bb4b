"""Byte-level BPE: the codec of a model file.

Text is data: the control tokens are not part of the vocabulary that text is encoded with, so no
text can spell one. Building takes about a fifth of a second from a header; nothing is cached.

This module does not know where the header comes from or what a conversation looks like.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import tokenizers
from tokenizers import models

from furcate.errors import ModelFileError, UsageError

from .base import Vocabulary, utf8
from .merges import BytePairVocabulary, Header, read_vocabulary
from .pretokenize import PreTokenizerRule, rule_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["END_OF_TURN_NAMES", "Tokenizer", "template_variables"]

# Besides the end of a sequence, what models are known to end an assistant's turn with.
END_OF_TURN_NAMES = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endofturn|>")


@dataclass(frozen=True, eq=False)
class Tokenizer(Vocabulary):
    """Encodes with the vocabulary and merges of a model file. Immutable, safe from any thread."""

    _backend: tokenizers.Tokenizer = field(repr=False)
    _missing: bytes = field(repr=False)  # bytes that no token stands for

    @classmethod
    def from_header(cls, header: Header, *, pre: str | None = None) -> Tokenizer:
        """The tokenizer of a model file; `pre` overrules how the file wants text cut."""
        vocabulary = read_vocabulary(header)
        return cls.of(vocabulary, rule_for(vocabulary.pre if pre is None else pre))

    @classmethod
    def of(cls, vocabulary: BytePairVocabulary, rule: PreTokenizerRule) -> Tokenizer:
        controls = vocabulary.control_names()
        table = vocabulary.bytes_of_tokens(frozenset(controls.values()))
        ids = vocabulary.special_ids
        ends = frozenset(ids[name] for name in ("eos", "eot", "eom") if name in ids)
        turns = frozenset(controls[name] for name in END_OF_TURN_NAMES if name in controls)
        return cls(
            name=vocabulary.name,
            table=table,
            control_names=controls,
            eos_ids=ends,
            bos_id=ids.get("bos"),
            adds_bos=vocabulary.adds_bos and "bos" in ids,
            end_of_turn_ids=ends | turns,
            fingerprint=_fingerprint(vocabulary, rule),
            chat_template=vocabulary.chat_template,
            template_variables=template_variables(vocabulary.tokens, ids),
            _backend=_backend(vocabulary, controls, rule),
            _missing=_missing_bytes(table),
        )

    def encode(self, text: str) -> list[int]:
        self._check(text)
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        for text in texts:
            self._check(text)
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [list(encoding.ids) for encoding in encodings]

    def _check(self, text: str) -> None:
        """The backend leaves out what it has no token for; text must not vanish silently."""
        raw = utf8(text)
        if self._missing and len(raw.translate(None, self._missing)) != len(raw):
            missing = set(self._missing)
            at = next(i for i, char in enumerate(text) if missing.intersection(char.encode()))
            raise UsageError(
                f"character {at} of the text, {text[at]!r}, has no token in {self.name}; "
                "remove or replace it"
            )


def _backend(
    vocabulary: BytePairVocabulary, controls: dict[str, int], rule: PreTokenizerRule
) -> tokenizers.Tokenizer:
    ids = {token: i for i, token in enumerate(vocabulary.tokens) if token not in controls}
    merges = [(a, b) for a, b in vocabulary.merges if a in ids and b in ids and a + b in ids]
    try:
        model = models.BPE(vocab=ids, merges=merges, ignore_merges=rule.whole_words)
    except Exception as error:  # the binding raises nothing narrower
        raise ModelFileError(f"the model file's vocabulary cannot be used: {error}") from error
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = rule.build()
    added = [
        tokenizers.AddedToken(token, normalized=False, special=False)
        for token in vocabulary.user_defined()
        if token in ids
    ]
    backend.add_tokens(added)
    return backend


def _missing_bytes(table: list[bytes]) -> bytes:
    """The bytes that no token stands for alone: text with one of them cannot be encoded."""
    return bytes(set(range(256)) - {token[0] for token in table if len(token) == 1})


def template_variables(tokens: Sequence[str], special_ids: Mapping[str, int]) -> dict[str, str]:
    """What a chat template may print by name."""
    variables = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token"}
    variables["padding"] = "pad_token"
    return {
        variable: tokens[special_ids[name]]
        for name, variable in variables.items()
        if name in special_ids
    }


def _fingerprint(vocabulary: BytePairVocabulary, rule: PreTokenizerRule) -> str:
    digest = hashlib.sha256()
    for part in (
        repr(rule),
        repr(sorted(vocabulary.special_ids.items())),
        "\0".join(vocabulary.tokens),
        repr(vocabulary.types),
        "\0".join(f"{left} {right}" for left, right in vocabulary.merges),
    ):
        # Each part's length goes first, so that no two vocabularies give the same bytes.
        raw = part.encode()
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()
