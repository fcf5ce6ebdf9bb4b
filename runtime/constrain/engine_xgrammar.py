"""xgrammar: pushdown automata over the vocabulary, compiled ahead, serialisable.

Its JSON grammar is corrected on the way (see `_SOUND_STRINGS`), and number and white-space limits
come from the recipe and the guard. It is used for what it enforces; `schema_routing` decides that.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from furcate.errors import ConstraintError

if TYPE_CHECKING:
    import xgrammar

    from .recipe import Recipe
    from .vocabulary import EngineVocabulary

__all__ = ["XgrammarSource", "compile_xgrammar", "load_xgrammar"]

# The strings of its JSON grammar may hold lone surrogates, escaped or raw, which no JSON parser
# reads. The rules are replaced by text; one that is not found means another xgrammar.
_SOUND_STRINGS = (
    (
        r"basic_escape ::= (([\"\\/bfnrt]) "
        r'| ("u" [A-Fa-f0-9] [A-Fa-f0-9] [A-Fa-f0-9] [A-Fa-f0-9]))',
        r"basic_escape ::= (([\"\\bfnrt]))",
    ),
    (
        r'basic_string_sub ::= (("\"") | ([^\0-\x1f\"\\\r\n] basic_string_sub)',
        r'basic_string_sub ::= (("\"") | ([^\0-\x1f\"\\\ud800-\udfff] basic_string_sub)',
    ),
)


class XgrammarSource:
    """A compiled grammar of this engine."""

    def __init__(self, compiled: xgrammar.CompiledGrammar, num_words: int) -> None:
        self._compiled = compiled
        self._num_words = num_words

    @property
    def num_bytes(self) -> int:
        return int(self._compiled.memory_size_bytes)

    def serialize(self) -> bytes:
        text: str = self._compiled.serialize_json()
        return text.encode()

    def cursor(self) -> XgrammarCursor:
        import xgrammar

        return XgrammarCursor(xgrammar.GrammarMatcher(self._compiled), self._num_words)


def compile_xgrammar(recipe: Recipe, vocabulary: EngineVocabulary) -> XgrammarSource:
    """Compiles in the calling thread; raises ConstraintError for what the engine refuses."""
    import xgrammar

    compiler = xgrammar.GrammarCompiler(vocabulary.xgrammar, max_threads=1, cache_enabled=False)
    try:
        if recipe.kind == "json_schema":
            grammar = _json_grammar(recipe)
        else:
            grammar = xgrammar.Grammar.from_ebnf(recipe.body)
        compiled = compiler.compile_grammar(grammar)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ConstraintError(f"xgrammar refuses the {recipe.kind}: {_reason(error)}") from None
    return XgrammarSource(compiled, vocabulary.num_words)


def load_xgrammar(serialized: bytes, vocabulary: EngineVocabulary) -> XgrammarSource:
    """The grammar that `XgrammarSource.serialize` wrote for the same vocabulary."""
    import xgrammar

    try:
        compiled = xgrammar.CompiledGrammar.deserialize_json(
            serialized.decode(), vocabulary.xgrammar
        )
    except (RuntimeError, ValueError, TypeError) as error:
        raise ConstraintError(f"xgrammar cannot load its grammar: {_reason(error)}") from None
    return XgrammarSource(compiled, vocabulary.num_words)


def _json_grammar(recipe: Recipe) -> xgrammar.Grammar:
    import xgrammar

    is_compact = recipe.whitespace == "compact"
    grammar = xgrammar.Grammar.from_json_schema(
        recipe.body,
        any_whitespace=not is_compact,
        separators=(",", ":") if is_compact else None,
        max_whitespace_cnt=1 if recipe.whitespace == "bounded" else None,
        strict_mode=False,
    )
    text = str(grammar)
    for theirs, ours in _SOUND_STRINGS:
        if text.count(theirs) != 1:
            raise ConstraintError(
                f"xgrammar {version('xgrammar')} has another JSON grammar than this version of "
                "furcate knows; use engine='llguidance' or another xgrammar"
            )
        text = text.replace(theirs, ours)
    return xgrammar.Grammar.from_ebnf(_with_fixed_escapes(text))


def _with_fixed_escapes(text: str) -> str:
    r"""Writes `\xe9` as `\u00e9`.

    The printer puts nothing between an escape and the next letter, and the parser takes the `\xe9a`
    of the constant "éa" for one character; `\u` has four digits always.
    """
    return re.sub(r"\\(x[0-9a-f]{2}|.)", _fixed_escape, text, flags=re.DOTALL)


def _fixed_escape(match: re.Match[str]) -> str:
    is_hexadecimal = len(match[1]) > 1
    return rf"\u00{match[1][1:]}" if is_hexadecimal else match[0]


def _reason(error: Exception) -> str:
    """The message without the engine's time stamp and source position."""
    lines = str(error).strip().splitlines() or [repr(error)]
    return re.sub(r"^(\[[\d:]+\] )?(/\S+:\d+: )?(Check failed: .* is false: )?", "", lines[0])[:300]


class XgrammarCursor:
    """One stream's place. Implements `Cursor`."""

    def __init__(self, matcher: xgrammar.GrammarMatcher, num_words: int) -> None:
        self.failure: str | None = None
        self._matcher = matcher
        self._num_words = num_words
        self._is_exhausted: bool | None = None  # None until asked at this place

    def fill(self, mask: np.ndarray) -> None:
        try:
            # False means that everything is allowed; the bits are then not written.
            if not self._matcher.fill_next_token_bitmask(mask.reshape(1, -1)):
                mask.fill(-1)
        except Exception as error:  # an engine's defect ends one stream
            self._fail(error)
            mask.fill(0)

    def advance(self, token_id: int) -> bool:
        try:
            is_accepted = bool(self._matcher.accept_token(token_id))
        except Exception as error:
            self._fail(error)
            return False
        if is_accepted:
            self._is_exhausted = None
        return is_accepted

    def rollback(self, num_tokens: int) -> None:
        try:
            self._matcher.rollback(num_tokens)
        except Exception as error:
            self._fail(error)
        self._is_exhausted = None

    def fork(self) -> XgrammarCursor:
        twin = XgrammarCursor(self._matcher, self._num_words)
        twin.failure = self.failure
        twin._is_exhausted = self._is_exhausted
        try:
            twin._matcher = self._matcher.fork()
        except Exception as error:
            twin._fail(error)
        return twin

    def is_accepting(self) -> bool:
        try:
            return bool(self._matcher.is_completed())
        except Exception as error:
            self._fail(error)
            return False

    def is_exhausted(self) -> bool:
        if self._is_exhausted is None:
            self._is_exhausted = self.is_accepting() and self._allows_nothing()
        return self._is_exhausted

    def _allows_nothing(self) -> bool:
        mask = np.zeros(self._num_words, np.int32)
        self.fill(mask)
        return not mask.any()

    def forced_bytes(self) -> bytes:
        try:
            return str(self._matcher.find_jump_forward_string()).encode()
        except UnicodeDecodeError as error:  # it ends within a character, and says so this way
            return error.object[: error.start]
        except Exception as error:
            self._fail(error)
            return b""

    def _fail(self, error: Exception) -> None:
        self.failure = f"xgrammar: {_reason(error)}"
