"""Token ids for a few bytes, without a tokenizer: always the longest token that fits.

Used where a stop string cuts a token in two: the bytes before the cut stay as valid, though not
always canonical, tokens. The engine holds only the table from id to bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LongestMatch"]


class LongestMatch:
    """`table[id]` are the bytes of a token; control tokens have none and are never used."""

    def __init__(self, table: Sequence[bytes]) -> None:
        self._ids: dict[bytes, int] = {}
        for token_id, piece in enumerate(table):
            if piece:
                self._ids.setdefault(piece, token_id)
        self._longest = max(map(len, self._ids), default=0)

    def encode(self, text: bytes) -> list[int]:
        """Ids whose bytes are `text`. A byte that no token spells is left out."""
        ids: list[int] = []
        at = 0
        while at < len(text):
            for end in range(min(len(text), at + self._longest), at, -1):
                token_id = self._ids.get(text[at:end])
                if token_id is not None:
                    ids.append(token_id)
                    at = end
                    break
            else:
                at += 1
        return ids
