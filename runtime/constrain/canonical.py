"""Canonical tokens of text that a grammar forces.

The bytes come from the grammar, the tokens from the tokenizer, with the ids already emitted as left
context: a forced stretch then has the tokens that the model would read back, not one a byte. What a
continuation could still merge with is left for the model to choose. Knows no grammar.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .vocabulary import EngineVocabulary

__all__ = ["Canonicalizer"]

_CONTEXT_IDS = 16
_MAX_REMEMBERED = 4096
# Continuations of every kind that tokenizers treat apart; tokens that one of them changes are not
# settled yet.
_PROBES = ("a", "A", "0", " ", " a", "\n", '"', ",", ":", "}", "]", ".", "é")


class Canonicalizer:
    """Splits forced bytes into tokens; remembers what it has split."""

    def __init__(self, vocabulary: EngineVocabulary) -> None:
        self._vocabulary = vocabulary
        self._longest_token = max(map(len, vocabulary.sorted_tokens), default=0)  # bytes
        self._remembered: dict[tuple[tuple[int, ...], bytes, bool], tuple[int, ...]] = {}

    def tokens(self, last_ids: Sequence[int], forced: bytes, *, is_final: bool) -> list[int]:
        """The settled tokens of `forced` after `last_ids`; all of them if nothing follows."""
        context = self._context(last_ids)
        key = (context, forced, is_final)
        known = self._remembered.get(key)
        if known is None:
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            known = self._remembered[key] = tuple(self._split(context, forced, is_final))
        return list(known)

    def _context(self, last_ids: Sequence[int]) -> tuple[int, ...]:
        """The last ids that are text, back to a control token."""
        recent = list(last_ids[-_CONTEXT_IDS:])
        table = self._vocabulary.table
        for index in range(len(recent) - 1, -1, -1):
            token_id = recent[index]
            if not (0 <= token_id < len(table) and table[token_id]):
                return tuple(recent[index + 1 :])
        return tuple(recent)

    def _split(self, context: tuple[int, ...], forced: bytes, is_final: bool) -> list[int]:
        for start in range(len(context) + 1):
            prefix = list(context[start:])
            text = self._text_of(prefix, forced)
            if text is None:
                continue
            ids = self._vocabulary.source.encode(text)
            # An earlier start sees more context; it counts only if the emitted ids are canonical.
            if ids[: len(prefix)] == prefix and self._bytes_of(ids) == text.encode():
                end = len(ids) if is_final else self._settled(ids, text)
                return ids[len(prefix) : max(end, len(prefix))]
        return []

    def _text_of(self, prefix: list[int], forced: bytes) -> str | None:
        """The text of prefix and forced bytes, without a last character that is incomplete."""
        context = self._bytes_of(prefix)
        joined = context + forced
        try:
            return joined.decode()
        except UnicodeDecodeError as error:
            is_tail = len(joined) - error.start < 4 and error.start >= len(context)
            return joined[: error.start].decode() if is_tail else None

    def _bytes_of(self, ids: Sequence[int]) -> bytes:
        return b"".join(self._vocabulary.table[token_id] for token_id in ids)

    def _settled(self, ids: list[int], text: str) -> int:
        """How many of `ids` no continuation of `text` changes."""
        kept = self._without_open_end(ids, text.encode())
        for probe in _PROBES:
            if kept == 0:
                break
            longer = self._vocabulary.source.encode(text + probe)
            while ids[:kept] != longer[:kept]:
                kept -= 1
        return kept

    def _without_open_end(self, ids: list[int], data: bytes) -> int:
        """Drops the tokens that overlap an ending which is the beginning of a longer token."""
        table, tokens = self._vocabulary.table, self._vocabulary.sorted_tokens
        for length in range(min(self._longest_token, len(data)), 0, -1):
            ending = data[-length:]
            index = bisect_right(tokens, ending)
            if index < len(tokens) and tokens[index].startswith(ending):
                kept, num_dropped = len(ids), 0
                while num_dropped < length:
                    kept -= 1
                    num_dropped += len(table[ids[kept]])
                return kept
        return len(ids)
