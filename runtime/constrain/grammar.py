"""The Grammar over any engine: what all matchers of a compiled constraint share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .canonical import Canonicalizer
from .guard import TextGuard
from .matcher import ConstrainedMatcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .matcher import Cursor
    from .vocabulary import EngineVocabulary

__all__ = ["CompiledGrammar", "CursorSource", "Toolkit"]


class CursorSource(Protocol):
    """An engine's compiled form."""

    @property
    def num_bytes(self) -> int: ...

    def serialize(self) -> bytes | None:
        """For another process with the same vocabulary; None if the engine has no such form."""
        ...

    def cursor(self) -> Cursor:
        """A new cursor at the start."""
        ...


class Toolkit:
    """What the grammars of one vocabulary have in common; holds its caches."""

    def __init__(self, vocabulary: EngineVocabulary) -> None:
        self.vocabulary = vocabulary
        self.canonicalizer = Canonicalizer(vocabulary)
        self.json_guard = TextGuard(vocabulary, is_json=True)
        self.text_guard = TextGuard(vocabulary, is_json=False)


class CompiledGrammar:
    """Implements `Grammar` for an engine's compiled form."""

    def __init__(self, source: CursorSource, toolkit: Toolkit, *, is_json: bool) -> None:
        self.vocabulary = toolkit.vocabulary
        self.canonicalizer = toolkit.canonicalizer
        self.guard = toolkit.json_guard if is_json else toolkit.text_guard
        self._source = source

    @property
    def num_bytes(self) -> int:
        return self._source.num_bytes

    def serialize(self) -> bytes | None:
        return self._source.serialize()

    def matcher(self, stop_ids: Sequence[int]) -> ConstrainedMatcher:
        return ConstrainedMatcher(self._source.cursor(), self, stop_ids)
