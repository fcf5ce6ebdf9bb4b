"""Token ids to text as they arrive.

A character may be spread over tokens and a stream may end in the middle of one. Whatever the
pushes, their texts together are the text of all the bytes decoded at once.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from furcate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["IncrementalDecoder"]


class IncrementalDecoder:
    """The open end of one stream of tokens; `table` gives the bytes of every id."""

    __slots__ = ("_decoder", "_table")

    def __init__(self, table: Sequence[bytes]) -> None:
        self._table = table
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, ids: Iterable[int]) -> str:
        """The characters that these tokens complete."""
        return self._decoder.decode(b"".join(map(self._bytes, ids)))

    def finish(self) -> str:
        """What an unfinished character at the end comes to; the decoder then starts afresh."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest

    @property
    def num_pending_bytes(self) -> int:
        """Bytes of a character whose end has not arrived yet: 0 to 3."""
        return len(self._decoder.getstate()[0])

    def _bytes(self, token_id: int) -> bytes:
        if not 0 <= token_id < len(self._table):
            raise UsageError(f"{token_id!r} is no token id: the table has {len(self._table)}")
        return self._table[token_id]
