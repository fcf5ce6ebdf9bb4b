"""llguidance: derivatives for regular expressions, Earley for the rest, with limits on both.

Everything reaches it as a Lark grammar with `no_forcing`, so that it never tokenizes: its own
forced tokens know no left context and would empty the mask for ours. A grammar has no serialised
form; building it takes a millisecond and gives up the GIL.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import llguidance

from furcate.errors import ConstraintError

if TYPE_CHECKING:
    import numpy as np

    from .recipe import Recipe
    from .vocabulary import EngineVocabulary

__all__ = ["LlguidanceSource", "compile_llguidance", "regex_lark"]

_NO_FORCING = '%llguidance {"no_forcing": true}\n'
_MAX_LEXER_STATES = 50_000  # one or two kilobytes each
_WHITESPACE: dict[str, dict[str, Any]] = {
    "compact": {"whitespace_flexible": False},
    "bounded": {"whitespace_flexible": True, "whitespace_pattern": r"[ \n\r\t]?"},
    "free": {"whitespace_flexible": True},
}
# How the engine points into a regular expression, and what it puts before other messages.
_MARKED = re.compile(
    r"parse error:\n    (?P<spelling>.*)\n    (?P<before> *)(?P<marks>\^+)\nerror: (?P<reason>.*)"
)
_WRAPPING = re.compile(r'^invalid regex ".*" \(in regex\): ')
_STOPS = {"NoExtension": "nothing can follow", "NoExtensionBias": "nothing can follow"}
# Without "u" there is one spelling of a key and no lone surrogate.
_ALLOWED_ESCAPES = '"\\bfnrt'


class LlguidanceSource:
    """A grammar of this engine: a matcher at the start, copied for each stream."""

    def __init__(self, matcher: llguidance.LLMatcher, source: str, vocab_size: int) -> None:
        self._matcher = matcher
        self._num_mask_bytes = (vocab_size + 1 + 31) // 32 * 4  # its own end token included
        # Its size cannot be asked for; lexer states are what grows.
        self.num_bytes = 64 * 1024 + 32 * len(source)

    def serialize(self) -> None:
        return None

    def cursor(self) -> LlguidanceCursor:
        return LlguidanceCursor(self._matcher.deep_copy(), self._num_mask_bytes)


def compile_llguidance(recipe: Recipe, vocabulary: EngineVocabulary) -> LlguidanceSource:
    """Builds the grammar in the calling thread; raises ConstraintError for what it refuses."""
    source = _lark(recipe)
    matcher = llguidance.LLMatcher(
        vocabulary.llguidance,
        llguidance.LLMatcher.grammar_from_lark(source),
        log_level=0,
        limits=llguidance.LLParserLimits(max_lexer_states=_MAX_LEXER_STATES, verbose_errors=False),
    )
    if matcher.is_error():
        raise ConstraintError(_refusal(recipe, matcher.get_error()))
    return LlguidanceSource(matcher, source, vocabulary.vocab_size)


def regex_lark(pattern: str) -> str:
    """A Lark grammar that is this regular expression."""
    return f"{_NO_FORCING}start: /{llguidance.regex_to_lark(pattern, '')}/"


def _lark(recipe: Recipe) -> str:
    if recipe.kind == "regex":
        return regex_lark(recipe.body)
    if recipe.kind == "json_schema":
        schema = json.loads(recipe.body)
        if not isinstance(schema, dict):  # `true` and `false` are schemas, but carry no options
            schema = {} if schema else {"not": {}}
        options = dict(_WHITESPACE[recipe.whitespace])
        # Constants and names with control characters, delete among them, are written with it.
        if r"\u00" not in recipe.body and "\x7f" not in recipe.body:
            options["json_allowed_escapes"] = _ALLOWED_ESCAPES
        return f"{_NO_FORCING}start: %json {json.dumps({**schema, 'x-guidance': options})}"
    return f"{recipe.body}\n{_NO_FORCING}"  # last, so that line numbers in errors are the user's


def _refusal(recipe: Recipe, message: str) -> str:
    """What the engine says, in terms of what the user wrote: of a regex, where and why."""
    if recipe.kind != "regex":
        reason = _reason(message, has_our_position=recipe.kind != "lark")
        return f"llguidance refuses the {recipe.kind}: {reason}"
    pattern = recipe.body if len(recipe.body) <= 200 else recipe.body[:200] + "..."
    said = f"the regex {pattern!r} cannot be enforced: "
    marked = _MARKED.search(message)
    if marked is None:
        reason = _reason(message, has_our_position=True)
        return said + re.sub(r" in regex /.*", "", _WRAPPING.sub("", reason))
    spelling, before, marks, reason = marked.group("spelling", "before", "marks", "reason")
    # Line breaks are spelt out for the engine and shift the places after them.
    where = f"offset {len(before)}" if spelling == recipe.body else "the part"
    part = spelling[len(before) :][: min(len(marks), 40)]
    return f"{said}{reason[:200]}, at {where}: {part!r}"


def _reason(message: str, *, has_our_position: bool = False) -> str:
    """The message in one line, without backtraces, echoes of our wrapping and its positions."""
    kept = re.split(
        r"<backtrace>|<non-verbose/>|^\s*1 \| ", message, maxsplit=1, flags=re.MULTILINE
    )[0]
    if has_our_position:
        kept = re.sub(r"^at 2\(\d+\): ", "", kept)
    return " ".join(kept.split())[:300]


class LlguidanceCursor:
    """One stream's place. Implements `Cursor`.

    A token that `consume_token` refuses kills its matcher; `try_consume_tokens` does not.
    """

    def __init__(self, matcher: llguidance.LLMatcher, num_mask_bytes: int) -> None:
        self.failure: str | None = None
        self._matcher = matcher
        self._num_mask_bytes = num_mask_bytes

    def fill(self, mask: np.ndarray) -> None:
        try:
            if mask.nbytes == self._num_mask_bytes and mask.flags.c_contiguous:
                self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
            else:  # the end token has a word of its own
                bits = self._matcher.compute_bitmask()[: mask.nbytes]
                mask.view("uint8")[: len(bits)] = memoryview(bits)
        except Exception as error:  # an engine's defect ends one stream
            self.failure = f"llguidance: {_reason(str(error))}"
        self._check()

    def advance(self, token_id: int) -> bool:
        if self._matcher.is_stopped():
            return False
        try:
            is_accepted = bool(self._matcher.try_consume_tokens([token_id]) == 1)
        except Exception as error:
            self.failure = f"llguidance: {_reason(str(error))}"
            return False
        self._check()
        return is_accepted and self.failure is None

    def rollback(self, num_tokens: int) -> None:
        try:
            self._matcher.rollback(num_tokens)
        except Exception as error:
            self.failure = f"llguidance: {_reason(str(error))}"
        self._check()

    def fork(self) -> LlguidanceCursor:
        twin = LlguidanceCursor(self._matcher.deep_copy(), self._num_mask_bytes)
        twin.failure = self.failure
        return twin

    def is_accepting(self) -> bool:
        return bool(self._matcher.is_accepting())

    def is_exhausted(self) -> bool:
        return bool(self._matcher.is_stopped()) and self.is_accepting()

    def forced_bytes(self) -> bytes:
        if self._matcher.is_stopped():
            return b""
        try:
            return bytes(self._matcher.compute_ff_bytes())
        except Exception as error:
            self.failure = f"llguidance: {_reason(str(error))}"
            return b""

    def _check(self) -> None:
        if self.failure is None and self._matcher.is_error():
            reason = _reason(self._matcher.get_error())
            self.failure = f"llguidance: {_STOPS.get(reason, reason)}"
