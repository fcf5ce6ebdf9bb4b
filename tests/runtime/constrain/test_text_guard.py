"""The guard holds tokens back only while the grammar offers others."""

from __future__ import annotations

import numpy as np
import pytest

from furcate.runtime.constrain.guard import (
    JSON_START,
    MAX_EXPONENT_DIGITS,
    MAX_NUMBER_BYTES,
    TextGuard,
)
from furcate.runtime.constrain.matcher import ConstrainedMatcher


class ListCursor:
    """Allows the same bytes at every place."""

    failure = None

    def __init__(self, allowed, is_accepting=False):
        self._allowed, self._is_accepting = allowed, is_accepting

    def fill(self, mask):
        mask.fill(0)
        for byte in self._allowed:
            mask[byte // 32] |= np.int32(np.uint32(1 << byte % 32).view(np.int32))

    def advance(self, token_id):
        return token_id in self._allowed

    def rollback(self, num_tokens):
        """Every place is the same."""

    def fork(self):
        return self

    def is_accepting(self):
        return self._is_accepting

    def is_exhausted(self):
        return False

    def forced_bytes(self):
        return b""


class Shared:
    def __init__(self, bench):
        self.vocabulary = bench.toolkit.vocabulary
        self.canonicalizer = bench.toolkit.canonicalizer
        self.guard = bench.toolkit.json_guard


def matcher_over(bench, cursor):
    return ConstrainedMatcher(cursor, Shared(bench), [bench.stop_id])


def test_a_number_ends_at_its_limit_where_it_may(byte_bench):
    matcher = matcher_over(byte_bench, ListCursor(b"12,"))
    assert all(matcher.accept(ord("1")) for _ in range(MAX_NUMBER_BYTES))
    assert byte_bench.allowed(matcher) == [ord(",")]
    assert not matcher.accept(ord("2"))
    assert matcher.accept(ord(","))
    assert matcher.accept(ord("2"))


def test_a_number_ends_at_its_limit_where_the_output_may_end(byte_bench):
    matcher = matcher_over(byte_bench, ListCursor(b"12", is_accepting=True))
    assert all(matcher.accept(ord("1")) for _ in range(MAX_NUMBER_BYTES))
    assert byte_bench.allowed(matcher) == [byte_bench.stop_id]


def test_a_number_that_cannot_end_yet_goes_on(byte_bench):
    matcher = matcher_over(byte_bench, ListCursor(b"12"))
    assert all(matcher.accept(ord("1")) for _ in range(3 * MAX_NUMBER_BYTES))
    assert byte_bench.allowed(matcher) == [ord("1"), ord("2")]


def test_rollback_takes_the_count_back(byte_bench):
    matcher = matcher_over(byte_bench, ListCursor(b"1,"))
    assert all(matcher.accept(ord("1")) for _ in range(MAX_NUMBER_BYTES))
    matcher.rollback(1)
    assert byte_bench.allowed(matcher) == [ord(","), ord("1")]
    assert matcher.fork().accept(ord("1"))


@pytest.mark.parametrize(
    ("text", "is_held_back"),
    [
        ("1" * MAX_NUMBER_BYTES, True),
        ("1" * (MAX_NUMBER_BYTES - 1), False),
        ('"' + "1" * 99, False),
        ('"\\"' + "1" * 99, False),
        ('"\\\\"' + "1" * 99, True),
        ('"a":' + "1" * 99, True),
        ("1e" + "9" * MAX_EXPONENT_DIGITS, True),
        ("1.5E-" + "9" * MAX_EXPONENT_DIGITS, True),
        ("1.5E-9", True),  # only tokens of two digits and more
        ("1e99,2", False),
        ("true", False),
        ("1" * MAX_NUMBER_BYTES + ".", False),
    ],
)
def test_digits_are_counted_outside_strings(byte_bench, text, is_held_back):
    guard = TextGuard(byte_bench.toolkit.vocabulary, is_json=True)
    state = guard.advance(JSON_START, text.encode())
    assert (guard.held_back(state) is not None) == is_held_back


def test_the_bytes_of_a_lone_surrogate_are_held_back_in_any_text(byte_bench):
    guard = TextGuard(byte_bench.toolkit.vocabulary, is_json=False)
    held_back = guard.held_back(guard.advance(JSON_START, b"x\xed"))
    assert held_back is not None
    assert guard.held_back(guard.advance(JSON_START, b"x\xec")) is None


def test_a_token_of_many_digits_does_not_slip_into_an_exponent(merging_bench):
    table = merging_bench.toolkit.vocabulary.table
    guard = TextGuard(merging_bench.toolkit.vocabulary, is_json=True)

    def held_back(text):
        mask = guard.held_back(guard.advance(JSON_START, text))
        return {table[i] for i in range(len(table)) if mask[i // 32] >> (i % 32) & 1}

    long_digits = {token for token in table if token.isdigit() and len(token) > 1}
    assert held_back(b"1e9") >= long_digits
    assert b"1" not in held_back(b"1e9")
    assert held_back(b"1e+") == {token for token in long_digits if len(token) > 2}
