"""The codec of a model file whose vocabulary SentencePiece made: scored pieces, merged best first.

The file's pieces are written as the model that the `sentencepiece` package reads; the package does
the rest. Control tokens are no pieces of that model, so no text can spell one. The space that
SentencePiece puts before a text is left to `placed`. This module does not know where the header
comes from.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sentencepiece

from furcate.errors import ModelFileError, UsageError

from .base import Vocabulary, utf8
from .merges import read_pieces
from .tokenizer import END_OF_TURN_NAMES, template_variables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .merges import Header, PieceVocabulary

__all__ = ["SentencePieceTokenizer"]

UNIGRAM, BPE = 1, 2  # types of a model in SentencePiece's format

# Field numbers of sentencepiece_model.proto.
PIECES, TRAINER, NORMALIZER = 1, 2, 3
PIECE, SCORE, TYPE = 1, 2, 3
MODEL_TYPE, BYTE_FALLBACK = 3, 35
NAME, ADD_DUMMY_PREFIX, REMOVE_EXTRA_SPACES = 1, 3, 4


@dataclass(frozen=True, eq=False)
class SentencePieceTokenizer(Vocabulary):
    """Immutable, safe from any thread."""

    _processor: sentencepiece.SentencePieceProcessor = field(repr=False)
    _unknown_id: int | None = None

    @classmethod
    def from_header(cls, header: Header) -> SentencePieceTokenizer:
        return cls.of(read_pieces(header))

    @classmethod
    def of(cls, vocabulary: PieceVocabulary) -> SentencePieceTokenizer:
        controls = vocabulary.control_names()
        ids = vocabulary.special_ids
        ends = frozenset(ids[name] for name in ("eos", "eot", "eom") if name in ids)
        turns = frozenset(controls[name] for name in END_OF_TURN_NAMES if name in controls)
        return cls(
            name=vocabulary.name,
            table=vocabulary.bytes_of_tokens(frozenset(controls.values())),
            control_names=controls,
            eos_ids=ends,
            bos_id=ids.get("bos"),
            adds_bos=vocabulary.adds_bos and "bos" in ids,
            end_of_turn_ids=ends | turns,
            fingerprint=_fingerprint(vocabulary),
            chat_template=vocabulary.chat_template,
            template_variables=template_variables(vocabulary.tokens, ids),
            spaced=frozenset(("start", "control")) if vocabulary.adds_prefix else frozenset(),
            _processor=_processor(vocabulary),
            _unknown_id=None if vocabulary.falls_back_to_bytes else ids.get("unknown"),
        )

    def encode(self, text: str) -> list[int]:
        utf8(text)
        ids = list(self._processor.encode(text))
        if self._unknown_id is not None and self._unknown_id in ids:
            strange = next(c for c in text if self._unknown_id in self._processor.encode(c))
            raise UsageError(
                f"character {text.index(strange)} of the text, {strange!r}, has no token in "
                f"{self.name}; remove or replace it"
            )
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]


def _processor(vocabulary: PieceVocabulary) -> sentencepiece.SentencePieceProcessor:
    pieces = b"".join(
        _message(
            PIECES,
            _text(PIECE, piece) + _number(SCORE, score) + _integer(TYPE, kind),
        )
        for piece, score, kind in vocabulary.pieces()
    )
    trainer = _integer(MODEL_TYPE, BPE if vocabulary.is_bpe else UNIGRAM)
    trainer += _integer(BYTE_FALLBACK, int(vocabulary.falls_back_to_bytes))
    normalizer = _text(NAME, "identity") + _integer(ADD_DUMMY_PREFIX, 0)
    normalizer += _integer(REMOVE_EXTRA_SPACES, 0)
    model = pieces + _message(TRAINER, trainer) + _message(NORMALIZER, normalizer)
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=model)
    except (RuntimeError, OSError) as error:
        raise ModelFileError(f"the model file's vocabulary cannot be used: {error}") from error


def _varint(number: int) -> bytes:
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def _message(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _text(number: int, text: str) -> bytes:
    return _message(number, text.encode())


def _integer(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _number(number: int, value: float) -> bytes:
    return _varint(number << 3 | 5) + struct.pack("<f", value)


def _fingerprint(vocabulary: PieceVocabulary) -> str:
    digest = hashlib.sha256()
    for piece, score, kind in vocabulary.pieces():
        digest.update(f"{len(piece)} {piece} {score!r} {kind}\0".encode())
    facts = (vocabulary.adds_prefix, vocabulary.is_bpe, sorted(vocabulary.special_ids.items()))
    digest.update(repr(facts).encode())
    return digest.hexdigest()
