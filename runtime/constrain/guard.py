"""Limits on the text of a value that no engine keeps: endless numbers and broken UTF-8.

A JSON number may have any number of digits, and a small model is happy to write them all; neither
engine can bound them. Characters that do not exist in UTF-8 (lone surrogates) pass xgrammar's
character classes. Both are seen from the bytes alone, so the guard knows no grammar: it masks
tokens, and only where the grammar allows something else.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from .vocabulary import EngineVocabulary

__all__ = ["JSON_START", "GuardState", "TextGuard"]

_NUMBER_BYTES = frozenset(b"0123456789+-.eE")
_DIGITS = frozenset(b"0123456789")
_QUOTE, _BACKSLASH, _SURROGATE_LEAD = 0x22, 0x5C, 0xED

# Enough for every double (-1.2345678901234567e-308 has 24 characters) and every 64-bit integer.
MAX_NUMBER_BYTES = 24
# With at most 24 characters before it, an exponent of two digits cannot overflow a double.
MAX_EXPONENT_DIGITS = 2
_LONG_EXPONENT = re.compile(rb"(^|[0-9.])[eE][+-]?[0-9]{%d}" % (MAX_EXPONENT_DIGITS + 1))


class GuardState(NamedTuple):
    """What the bytes so far say. `exponent_digits` is None outside an exponent."""

    in_string: bool
    is_escaped: bool
    number_bytes: int
    exponent_digits: int | None
    last_byte: int


JSON_START = GuardState(False, False, 0, None, 0)


def _step(state: GuardState, byte: int) -> GuardState:
    if state.in_string:
        closes = byte == _QUOTE and not state.is_escaped
        escapes = byte == _BACKSLASH and not state.is_escaped
        return GuardState(not closes, escapes, 0, None, byte)
    if byte not in _NUMBER_BYTES:
        return GuardState(byte == _QUOTE, False, 0, None, byte)
    exponent = state.exponent_digits
    if byte in b"eE" and state.last_byte in _DIGITS:
        exponent = 0
    elif exponent is not None and byte in _DIGITS:
        exponent += 1
    return GuardState(False, False, state.number_bytes + 1, exponent, byte)


class TextGuard:
    """Which tokens to hold back after some bytes; shared by all matchers of a vocabulary."""

    def __init__(self, vocabulary: EngineVocabulary, *, is_json: bool) -> None:
        self._vocabulary = vocabulary
        self._is_json = is_json

    @cached_property
    def _number_tokens(self) -> np.ndarray:
        return self._vocabulary.mask_where(lambda token: token[0] in _NUMBER_BYTES)

    @cached_property
    def _surrogate_tails(self) -> np.ndarray:
        return self._vocabulary.mask_where(lambda token: token[0] >= 0xA0)

    def advance(self, state: GuardState, token: bytes) -> GuardState:
        if not self._is_json:
            return state._replace(last_byte=token[-1])
        for byte in token:
            state = _step(state, byte)
        return state

    @cached_property
    def _long_exponents(self) -> np.ndarray | None:
        """Tokens that hold more of an exponent than is allowed by themselves; most have none."""
        mask = self._vocabulary.mask_where(
            lambda token: b'"' not in token and _LONG_EXPONENT.search(token) is not None
        )
        return mask if mask.any() else None

    @cached_property
    def _exponent_tails(self) -> list[np.ndarray]:
        """For each number of exponent digits so far, the tokens with too many more."""
        patterns = [
            re.compile(rb"[+-]?[0-9]{%d}" % (MAX_EXPONENT_DIGITS + 1 - num_digits))
            for num_digits in range(MAX_EXPONENT_DIGITS)
        ]
        return [self._mask_of_beginnings(pattern) for pattern in patterns]

    def _mask_of_beginnings(self, pattern: re.Pattern[bytes]) -> np.ndarray:
        return self._vocabulary.mask_where(lambda token: pattern.match(token) is not None)

    def held_back(self, state: GuardState) -> np.ndarray | None:
        """The tokens that must not follow while the grammar offers others; None for none."""
        if state.last_byte == _SURROGATE_LEAD:
            return self._surrogate_tails
        if not self._is_json or state.in_string:
            return None
        if state.last_byte in _DIGITS and self._is_at_limit(state):
            return self._number_tokens
        if state.exponent_digits is not None and state.exponent_digits < MAX_EXPONENT_DIGITS:
            return self._exponent_tails[state.exponent_digits]
        return self._long_exponents

    def _is_at_limit(self, state: GuardState) -> bool:
        exponent = state.exponent_digits
        return state.number_bytes >= MAX_NUMBER_BYTES or (
            exponent is not None and exponent >= MAX_EXPONENT_DIGITS
        )
