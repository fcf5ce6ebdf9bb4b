"""The Matcher over any engine: stop ids, control tokens, limits and forced tokens in one place.

An engine supplies a Cursor, which knows text tokens only. Everything that must hold whichever
engine runs is here, so that no engine can get it wrong: control ids are never allowed, stop ids
exactly where the output may end, and a failed engine is a dead end, never an exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from .guard import JSON_START

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .canonical import Canonicalizer
    from .guard import GuardState, TextGuard
    from .vocabulary import EngineVocabulary

__all__ = ["ConstrainedMatcher", "Cursor", "Surroundings"]


class Cursor(Protocol):
    """An engine's own matcher. Its methods never raise; a failure is kept in `failure`."""

    failure: str | None

    def fill(self, mask: np.ndarray) -> None:
        """Sets the bits of the allowed text tokens; bits of other ids may be anything."""
        ...

    def advance(self, token_id: int) -> bool:
        """Accepts a text token, or leaves the cursor as it was."""
        ...

    def rollback(self, num_tokens: int) -> None: ...

    def fork(self) -> Cursor: ...

    def is_accepting(self) -> bool: ...

    def is_exhausted(self) -> bool:
        """Whether the text is complete and nothing may be added."""
        ...

    def forced_bytes(self) -> bytes:
        """The bytes that must follow; may end within a character."""
        ...


class Surroundings(Protocol):
    """What every matcher of a grammar shares."""

    @property
    def vocabulary(self) -> EngineVocabulary: ...

    @property
    def canonicalizer(self) -> Canonicalizer: ...

    @property
    def guard(self) -> TextGuard: ...


class ConstrainedMatcher:
    """Implements `Matcher` for a cursor."""

    def __init__(self, cursor: Cursor, shared: Surroundings, stop_ids: Sequence[int]) -> None:
        vocab_size = shared.vocabulary.vocab_size
        self._cursor = cursor
        self._shared = shared
        self._stop_ids = frozenset(i for i in stop_ids if 0 <= i < vocab_size)
        self._stop_mask = shared.vocabulary.mask_of(self._stop_ids) if self._stop_ids else None
        self._states: list[GuardState] = [JSON_START]  # one more than text tokens accepted
        self._has_stopped = False

    @property
    def failure(self) -> str | None:
        return self._cursor.failure

    def fill_mask(self, mask: np.ndarray) -> bool:
        if self._has_stopped or self.failure is not None:
            mask.fill(0)
            return False
        self._fill_text(mask)
        if self._stop_mask is not None and self._cursor.is_accepting():
            np.bitwise_or(mask, self._stop_mask, out=mask)
        return bool(mask.any())

    def _fill_text(self, mask: np.ndarray) -> None:
        self._cursor.fill(mask)
        if self.failure is not None:
            mask.fill(0)
            return
        np.bitwise_and(mask, self._shared.vocabulary.text_mask, out=mask)
        held_back = self._shared.guard.held_back(self._states[-1])
        if held_back is not None:
            guarded = np.bitwise_and(mask, ~held_back)
            if guarded.any() or self._cursor.is_accepting():
                mask[:] = guarded

    def accept(self, token_id: int) -> bool:
        if self._has_stopped or self.failure is not None:
            return False
        if token_id in self._stop_ids:
            self._has_stopped = self._cursor.is_accepting()
            return self._has_stopped
        table = self._shared.vocabulary.table
        if not (0 <= token_id < len(table) and table[token_id]) or self._is_held_back(token_id):
            return False
        if not self._cursor.advance(token_id):
            return False
        self._states.append(self._shared.guard.advance(self._states[-1], table[token_id]))
        return True

    def _is_held_back(self, token_id: int) -> bool:
        held_back = self._shared.guard.held_back(self._states[-1])
        if held_back is None or not _has_bit(held_back, token_id):
            return False
        mask = np.empty(self._shared.vocabulary.num_words, np.int32)
        self._fill_text(mask)
        return not _has_bit(mask, token_id)

    def rollback(self, num_tokens: int) -> None:
        available = len(self._states) - 1 + self._has_stopped
        if not 0 <= num_tokens <= available:
            raise ValueError(f"rollback of {num_tokens} tokens, but {available} were accepted")
        if self._has_stopped and num_tokens:
            self._has_stopped = False
            num_tokens -= 1
        if num_tokens:
            self._cursor.rollback(num_tokens)
            del self._states[-num_tokens:]

    def fork(self) -> ConstrainedMatcher:
        twin = ConstrainedMatcher.__new__(ConstrainedMatcher)
        twin._cursor = self._cursor.fork()
        twin._shared = self._shared
        twin._stop_ids = self._stop_ids
        twin._stop_mask = self._stop_mask
        twin._states = self._states.copy()
        twin._has_stopped = self._has_stopped
        return twin

    @property
    def is_accepting(self) -> bool:
        return self._has_stopped or (self.failure is None and self._cursor.is_accepting())

    @property
    def is_finished(self) -> bool:
        return self._has_stopped or (self.failure is None and self._cursor.is_exhausted())

    def forced_tokens(self, last_ids: Sequence[int]) -> list[int]:
        if self._has_stopped or self.failure is not None or self._cursor.is_accepting():
            return []
        forced = self._cursor.forced_bytes()
        if not forced:
            return []
        canonical = self._shared.canonicalizer
        everything = canonical.tokens(last_ids, forced, is_final=True)
        num_allowed, is_final = self._try_out(everything)
        if is_final:
            return everything
        return canonical.tokens(last_ids, forced, is_final=False)[:num_allowed]

    def _try_out(self, token_ids: list[int]) -> tuple[int, bool]:
        """How many of the tokens are accepted, and whether they finish the output."""
        probe = self.fork()
        for index, token_id in enumerate(token_ids):
            # Where the output may end there is a choice, whatever the engine says must follow.
            if probe.is_accepting or not probe.accept(token_id):
                return index, False
        return len(token_ids), bool(token_ids) and probe.is_finished


def _has_bit(mask: np.ndarray, token_id: int) -> bool:
    return bool((int(mask[token_id // 32]) >> (token_id % 32)) & 1)
