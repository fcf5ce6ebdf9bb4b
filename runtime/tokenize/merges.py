"""The tokens of a vocabulary as a model file holds them, with merges or with scores.

Reads and checks the `tokenizer.*` keys of a header. It does not know how files are opened or how
text is cut into words.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeGuard

from furcate.errors import ModelFileError

__all__ = ["BytePairVocabulary", "Header", "PieceVocabulary", "read_pieces", "read_vocabulary"]

# Token types of the format. An unused token has no meaning, so no text may give one.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
NOT_TEXT = frozenset({UNKNOWN, CONTROL, UNUSED})


class Header(Protocol):
    """A model file's header, as far as a tokenizer is concerned."""

    @property
    def metadata(self) -> Mapping[str, object]: ...


@dataclass(frozen=True, slots=True)
class BytePairVocabulary:
    """Tokens are spelled in the byte alphabet, except control and user-defined ones."""

    tokens: list[str]
    types: list[int]
    merges: list[tuple[str, str]]
    pre: str
    special_ids: Mapping[str, int]  # "bos", "eos", "unknown", ...
    adds_bos: bool
    chat_template: str | None
    name: str

    def control_names(self) -> dict[str, int]:
        """The tokens that only a name gives: never the result of encoding text."""
        return _control_names(self.tokens, self.types, self.special_ids)

    def user_defined(self) -> list[str]:
        return [t for t, kind in zip(self.tokens, self.types, strict=True) if kind == USER_DEFINED]

    def bytes_of_tokens(self, control_ids: frozenset[int]) -> list[bytes]:
        table = []
        for index, (token, kind) in enumerate(zip(self.tokens, self.types, strict=True)):
            if index in control_ids:
                table.append(b"")
            elif kind == USER_DEFINED:
                table.append(token.encode())
            else:
                table.append(_spelled_bytes(index, token))
        return table


@dataclass(frozen=True, slots=True)
class PieceVocabulary:
    """Pieces spell a space as U+2581 and a byte as <0x0A>; the likeliest ones have the highest
    scores."""

    tokens: list[str]
    types: list[int]
    scores: list[float]
    is_bpe: bool  # merged best first; else the likeliest cut is taken
    adds_prefix: bool  # a space goes before a text
    special_ids: Mapping[str, int]
    adds_bos: bool
    chat_template: str | None
    name: str

    @property
    def falls_back_to_bytes(self) -> bool:
        return BYTE in self.types

    def control_names(self) -> dict[str, int]:
        """The tokens that only a name gives: never the result of encoding text."""
        return _control_names(self.tokens, self.types, self.special_ids)

    def pieces(self) -> Iterator[tuple[str, float, int]]:
        """Text, score and type of each, in the format of SentencePiece, which has the types of a
        model file; control tokens stand under a text that nothing spells."""
        unknown = self.special_ids.get("unknown", 0)
        controls = set(self.control_names().values())
        rows = zip(self.tokens, self.scores, self.types, strict=True)
        for index, (token, score, kind) in enumerate(rows):
            if index == unknown:
                yield token, score, UNKNOWN
            elif index in controls:
                yield f"\ue000{index}\ue001", score, CONTROL
            else:
                yield token, score, kind

    def bytes_of_tokens(self, control_ids: frozenset[int]) -> list[bytes]:
        return [
            b"" if index in control_ids else piece_bytes(token, kind == BYTE)
            for index, (token, kind) in enumerate(zip(self.tokens, self.types, strict=True))
        ]


SPACE = "\u2581"  # how SentencePiece spells a space


def piece_bytes(piece: str, is_byte: bool) -> bytes:
    """The bytes of a piece; `is_byte`: it is written <0x0A> and stands for that byte."""
    return bytes([int(piece[3:5], 16)]) if is_byte else piece.replace(SPACE, " ").encode()


def _control_names(
    tokens: Sequence[str], types: Sequence[int], special_ids: Mapping[str, int]
) -> dict[str, int]:
    ids = {i for i, kind in enumerate(types) if kind in NOT_TEXT}
    return {tokens[i]: i for i in sorted(ids | set(special_ids.values()))}


def _byte_alphabet() -> dict[int, int]:
    """Character -> byte. GPT-2's rule: a printable byte stands for itself, the rest follow 256."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: byte for byte in printable} | {256 + i: byte for i, byte in enumerate(others)}


BYTE_OF_CHARACTER = _byte_alphabet()


def _spelled_bytes(index: int, token: str) -> bytes:
    try:
        return bytes([BYTE_OF_CHARACTER[ord(character)] for character in token])
    except KeyError as error:
        raise ModelFileError(
            f"token {index}, {token!r}, is not spelled in the byte alphabet: "
            f"{chr(error.args[0])!r} stands for no byte"
        ) from error


def read_vocabulary(header: Header) -> BytePairVocabulary:
    """Checks that the header's tokenizer is a complete byte-level BPE and returns it."""
    metadata = header.metadata
    model = metadata.get("tokenizer.ggml.model")
    if model != "gpt2":
        raise ModelFileError(
            f"the model file's tokenizer is {model!r}, only 'gpt2' (byte-level BPE) is supported"
        )
    tokens = _distinct_tokens(metadata)
    pre = metadata.get("tokenizer.ggml.pre")
    if not isinstance(pre, str):
        raise ModelFileError(
            f"'tokenizer.ggml.pre' is {pre!r}: how text is cut into words is not known; "
            "use a file that was converted with it"
        )
    return BytePairVocabulary(
        tokens=tokens,
        types=_types(metadata, len(tokens)),
        merges=_merges(metadata, set(tokens)),
        pre=pre,
        special_ids=_special_ids(metadata, len(tokens)),
        adds_bos=metadata.get("tokenizer.ggml.add_bos_token") is True,
        chat_template=_text(metadata, "tokenizer.chat_template"),
        name=_text(metadata, "general.name") or "the model",
    )


PIECE_MODELS = {"llama": True, "t5": False}  # by name: whether pieces are merged best first


def read_pieces(header: Header) -> PieceVocabulary:
    """Checks that the header's tokenizer is one of SentencePiece's and returns it."""
    metadata = header.metadata
    model = metadata.get("tokenizer.ggml.model")
    if model not in PIECE_MODELS:
        raise ModelFileError(
            f"the model file's tokenizer is {model!r}, which has no scored pieces; "
            f"those that have: {', '.join(PIECE_MODELS)}"
        )
    tokens = _distinct_tokens(metadata)
    types = _types(metadata, len(tokens))
    for index, (token, kind) in enumerate(zip(tokens, types, strict=True)):
        if kind == BYTE and BYTE_PIECE.fullmatch(token) is None:
            raise ModelFileError(f"token {index}, {token!r}, is said to be a byte such as <0x0A>")
    adds_prefix = metadata.get("tokenizer.ggml.add_space_prefix")
    return PieceVocabulary(
        tokens=tokens,
        types=types,
        scores=_scores(metadata, len(tokens)),
        is_bpe=PIECE_MODELS[str(model)],
        adds_prefix=adds_prefix is not False,
        special_ids=_special_ids(metadata, len(tokens)),
        adds_bos=metadata.get("tokenizer.ggml.add_bos_token") is not False,
        chat_template=_text(metadata, "tokenizer.chat_template"),
        name=_text(metadata, "general.name") or "the model",
    )


def _text(metadata: Mapping[str, object], key: str) -> str | None:
    value = metadata.get(key)
    return value if isinstance(value, str) else None


def _distinct_tokens(metadata: Mapping[str, object]) -> list[str]:
    tokens = _strings(metadata, "tokenizer.ggml.tokens")
    if len(set(tokens)) != len(tokens) or not all(tokens):
        raise ModelFileError("'tokenizer.ggml.tokens' holds a token twice or an empty one")
    return tokens


def _scores(metadata: Mapping[str, object], num_tokens: int) -> list[float]:
    value = metadata.get("tokenizer.ggml.scores")
    try:
        scores = [float(item) for item in value] if isinstance(value, Iterable) else []
    except (TypeError, ValueError):
        scores = []
    if len(scores) != num_tokens or not all(map(math.isfinite, scores)):
        raise ModelFileError(
            f"'tokenizer.ggml.scores' must give {num_tokens} tokens a finite number, "
            f"got {len(scores)} from {value!r:.80}"
        )
    return scores


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _strings(metadata: Mapping[str, object], key: str) -> list[str]:
    value = metadata.get(key)
    strings = list(value) if _is_sequence(value) else []
    if not strings or not all(isinstance(item, str) for item in strings):
        raise ModelFileError(f"{key!r} must be a non-empty array of strings, got {value!r:.80}")
    return [str(item) for item in strings]


def _types(metadata: Mapping[str, object], num_tokens: int) -> list[int]:
    value = metadata.get("tokenizer.ggml.token_type")
    if value is None:
        return [NORMAL] * num_tokens
    try:
        types = [operator.index(item) for item in value] if isinstance(value, Iterable) else []
    except TypeError:
        types = []
    if len(types) != num_tokens or not all(NORMAL <= kind <= BYTE for kind in types):
        raise ModelFileError(
            f"'tokenizer.ggml.token_type' must give {num_tokens} tokens a type from 1 to 6, "
            f"got {len(types)} from {value!r:.80}"
        )
    return types


def _merges(metadata: Mapping[str, object], tokens: set[str]) -> list[tuple[str, str]]:
    merges = []
    for index, merge in enumerate(_strings(metadata, "tokenizer.ggml.merges")):
        left, _, right = merge.partition(" ")
        if left not in tokens or right not in tokens or left + right not in tokens:
            raise ModelFileError(
                f"merge {index}, {merge!r}, does not join two tokens into a third one"
            )
        merges.append((left, right))
    return merges


def _special_ids(metadata: Mapping[str, object], num_tokens: int) -> dict[str, int]:
    """The ids under `tokenizer.ggml.<name>_token_id`."""
    found = {}
    for name in ("bos", "eos", "eot", "eom", "unknown", "padding"):
        value = metadata.get(f"tokenizer.ggml.{name}_token_id")
        if value is None:
            continue
        if type(value) is not int or not 0 <= value < num_tokens:
            raise ModelFileError(
                f"'tokenizer.ggml.{name}_token_id' is {value!r}, there are {num_tokens} tokens"
            )
        found[name] = value
    return found
