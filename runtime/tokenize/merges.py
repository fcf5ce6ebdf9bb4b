"""The tokens and merges of a byte-level BPE vocabulary as a model file holds them.

Reads and checks the `tokenizer.*` keys of a header. It does not know how files are opened or how
text is cut into words.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeGuard

from furcate.errors import ModelFileError

__all__ = ["BytePairVocabulary", "Header", "read_vocabulary"]

# Token types of the format. An unused token has no meaning, so no text may give one.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
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
        ids = {i for i, kind in enumerate(self.types) if kind in NOT_TEXT}
        return {self.tokens[i]: i for i in sorted(ids | set(self.special_ids.values()))}

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
    tokens = _strings(metadata, "tokenizer.ggml.tokens")
    if len(set(tokens)) != len(tokens) or not all(tokens):
        raise ModelFileError("'tokenizer.ggml.tokens' holds a token twice or an empty one")
    pre = metadata.get("tokenizer.ggml.pre")
    if not isinstance(pre, str):
        raise ModelFileError(
            f"'tokenizer.ggml.pre' is {pre!r}: how text is cut into words is not known; "
            "use a file that was converted with it"
        )
    template = metadata.get("tokenizer.chat_template")
    name = metadata.get("general.name")
    return BytePairVocabulary(
        tokens=tokens,
        types=_types(metadata, len(tokens)),
        merges=_merges(metadata, set(tokens)),
        pre=pre,
        special_ids=_special_ids(metadata, len(tokens)),
        adds_bos=metadata.get("tokenizer.ggml.add_bos_token") is True,
        chat_template=template if isinstance(template, str) else None,
        name=name if isinstance(name, str) else "the model",
    )


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
