"""Validation of a finished output against the constraint as it was given.

The matcher already kept the output in shape; this is the promise's second half, and the counter of
its failures must stay at zero. Never a backtracking regular expression: llguidance's automaton for
regex constraints, the linear-time engine for patterns in schemas.
"""

from __future__ import annotations

import json
import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import llguidance

from furcate.errors import ConstraintError

from .engine_llguidance import regex_lark
from .recipe import prepare
from .schema import pointer_to

if TYPE_CHECKING:
    from furcate.protocol.constraint import Constraint

__all__ = ["OutputCheck", "check_constraint", "check_output"]


def check_constraint(constraint: Constraint) -> None:
    """Raises ConstraintError for one that no engine takes, as far as that is known without
    compiling it for a vocabulary."""
    prepare(constraint)
    if constraint.kind == "regex":
        problem = OutputCheck(constraint).regex_error()
        if problem is not None:
            raise ConstraintError(f"the regex {constraint.body[:200]!r} is invalid: {problem}")


def check_output(constraint: Constraint, text: str) -> str | None:
    """What is wrong with a finished output; None if it fits.

    Grammars (EBNF, Lark) have no second implementation here and are taken at the matcher's word.
    """
    return OutputCheck(constraint).problem(text)


class OutputCheck:
    """A constraint's check, built once for many outputs."""

    def __init__(self, constraint: Constraint) -> None:
        self._constraint = constraint

    def problem(self, text: str) -> str | None:
        if self._constraint.kind == "json_schema":
            return self._schema_problem(text)
        if self._constraint.kind == "regex":
            return self._regex_problem(text)
        return None

    @cached_property
    def _validator(self) -> jsonschema_rs.Validator:
        return jsonschema_rs.validator_for(
            json.loads(self._constraint.body), pattern_options=jsonschema_rs.RegexOptions()
        )

    def _schema_problem(self, text: str) -> str | None:
        try:
            value = json.loads(text, parse_float=_finite, parse_constant=_finite)
        except (ValueError, RecursionError) as refusal:
            return f"the output is not JSON: {refusal}"
        try:
            error = next(self._validator.iter_errors(value), None)
        except ValueError as refusal:  # a value that JSON has and the validator does not
            return f"the output cannot be validated: {refusal}"
        if error is None:
            return None
        pointer = pointer_to(tuple(str(part) for part in error.instance_path))
        return f"the output does not fit the schema at {pointer!r}: {error.message[:300]}"

    @cached_property
    def _automaton(self) -> llguidance.LLMatcher:
        return llguidance.LLMatcher(
            _byte_tokenizer(),
            llguidance.LLMatcher.grammar_from_lark(regex_lark(self._constraint.body)),
            log_level=0,
        )

    def regex_error(self) -> str | None:
        """What is wrong with the expression itself."""
        return self._automaton.get_error()[:300] if self._automaton.is_error() else None

    def _regex_problem(self, text: str) -> str | None:
        matcher = self._automaton.deep_copy()
        data = text.encode()
        num_matched = matcher.try_consume_tokens(list(data)) if data else 0
        if matcher.is_error():
            return f"the output cannot be checked: {matcher.get_error()[:300]}"
        if num_matched < len(data):
            return f"the output leaves the regular expression at byte {num_matched}"
        if not matcher.is_accepting():
            return "the output ends before the regular expression is complete"
        return None


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number!r} is not a finite number")
    return value


def _byte_tokenizer() -> llguidance.LLTokenizer:
    table: Any = _ByteTable()  # any object that encodes will do, though the stub asks for a wrapper
    return llguidance.LLTokenizer(table, slices=[])


class _ByteTable:
    """One token a byte, and the end token that the constructor asks for."""

    is_tokenizer_wrapper = True
    bos_token_id = None
    eos_token_id = 256
    special_token_ids = (256,)
    tokens = (*(bytes([byte]) for byte in range(256)), b"")

    def __call__(self, text: str) -> list[int]:
        return list(text.encode())
