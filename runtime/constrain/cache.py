"""Compiled grammars and refusals by key, bounded by the bytes they hold."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from furcate.errors import ConstraintError

if TYPE_CHECKING:
    from .base import Grammar

__all__ = ["GrammarCache"]

_ENTRY_BYTES = 512  # key, links and objects around an entry


class GrammarCache:
    """Least recently used entries go first. A refusal is an entry too: it cost a compilation.

    Safe to use from several threads.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, tuple[Grammar | ConstraintError, int]] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()

    @property
    def num_bytes(self) -> int:
        return self._num_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Grammar | ConstraintError | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: str, value: Grammar | ConstraintError) -> None:
        """Keeps an entry; one that is larger than the whole cache is not kept."""
        size = _ENTRY_BYTES
        size += len(str(value)) if isinstance(value, ConstraintError) else value.num_bytes
        with self._lock:
            if key in self._entries:
                self._num_bytes -= self._entries.pop(key)[1]
            if size > self._max_bytes:
                return
            self._entries[key] = (value, size)
            self._num_bytes += size
            while self._num_bytes > self._max_bytes:
                self._num_bytes -= self._entries.popitem(last=False)[1][1]
