"""What every matcher promises, whichever engine is behind it."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from furcate.protocol.constraint import Constraint

OBJECT = json.dumps(
    {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "yy"]}},
        "required": ["a", "b"],
    }
)
CONSTRAINTS = {
    "json by xgrammar": Constraint(kind="json_schema", body=OBJECT, engine="xgrammar"),
    "json by llguidance": Constraint(kind="json_schema", body=OBJECT, engine="llguidance"),
    "regex": Constraint(kind="regex", body=r"[0-9]{1,3}(\.[0-9]+)?"),
    "ebnf": Constraint(kind="ebnf", body='root ::= "(" root ")" | [a-z]+'),
    "lark": Constraint(kind="lark", body='start: "(" start ")" | /[a-z]+/'),
}
each_engine = pytest.mark.parametrize("constraint", CONSTRAINTS.values(), ids=CONSTRAINTS.keys())


@each_engine
def test_exactly_the_tokens_of_the_mask_are_accepted(byte_bench, constraint):
    grammar = byte_bench.grammar(constraint)
    rng, matcher = random.Random(1), grammar.matcher([byte_bench.stop_id])
    for _ in range(12):
        allowed = byte_bench.allowed(matcher)
        accepted = [i for i in range(300) if matcher.fork().accept(i)]
        assert accepted == allowed
        if not matcher.accept(rng.choice([i for i in allowed if i != byte_bench.stop_id] or [0])):
            break


@each_engine
def test_a_refused_token_changes_nothing(byte_bench, constraint):
    matcher = byte_bench.grammar(constraint).matcher([byte_bench.stop_id])
    before = byte_bench.allowed(matcher)
    for token_id in (-1, 299, 10**9, byte_bench.stop_id, 256, 257, ord("\x01")):
        assert not matcher.accept(token_id)
    assert byte_bench.allowed(matcher) == before
    assert matcher.failure is None


@each_engine
def test_rollback_returns_to_every_earlier_place(byte_bench, constraint):
    walk = byte_bench.walk(byte_bench.grammar(constraint), seed=5)
    matcher = byte_bench.grammar(constraint).matcher([byte_bench.stop_id])
    masks = []
    for token_id in walk.ids:
        masks.append(byte_bench.allowed(matcher))
        assert matcher.accept(token_id)
    for count in (1, 2, 3, len(masks)):
        if count > len(masks):
            continue
        matcher.rollback(count)
        assert byte_bench.allowed(matcher) == masks[len(masks) - count]
        for token_id in walk.ids[len(masks) - count :]:
            assert matcher.accept(token_id)


@each_engine
def test_a_fork_is_independent(byte_bench, constraint):
    walk = byte_bench.walk(byte_bench.grammar(constraint), seed=3)
    matcher = byte_bench.grammar(constraint).matcher([byte_bench.stop_id])
    half = len(walk.ids) // 2
    assert all(matcher.accept(i) for i in walk.ids[:half])
    before = byte_bench.allowed(matcher)
    twin = matcher.fork()
    assert all(twin.accept(i) for i in walk.ids[half:])
    assert byte_bench.allowed(matcher) == before
    assert all(matcher.accept(i) for i in walk.ids[half:])
    assert matcher.is_accepting
    assert twin.is_accepting


@each_engine
def test_a_stop_id_is_accepted_once_and_can_be_taken_back(byte_bench, constraint):
    walk = byte_bench.walk(byte_bench.grammar(constraint), seed=7)
    matcher = walk.matcher
    assert matcher.is_finished
    assert matcher.is_accepting
    assert byte_bench.allowed(matcher) == []
    assert not matcher.accept(byte_bench.stop_id)
    matcher.rollback(1)
    assert byte_bench.stop_id in byte_bench.allowed(matcher)
    matcher.rollback(len(walk.ids))
    assert matcher.accept(walk.ids[0])


def test_rollback_beyond_the_start_is_the_callers_mistake(byte_bench):
    matcher = byte_bench.grammar(CONSTRAINTS["regex"]).matcher([])
    assert matcher.accept(ord("1"))
    with pytest.raises(ValueError, match="rollback of 2 tokens, but 1 were accepted"):
        matcher.rollback(2)


@each_engine
def test_without_stop_ids_a_finished_output_allows_nothing(byte_bench, constraint):
    grammar = byte_bench.schema({"const": "x"}, engine="auto")
    matcher = grammar.matcher([])
    assert all(matcher.accept(byte) for byte in b'"x"')
    mask = np.full(byte_bench.num_words, -1, np.int32)
    assert not matcher.fill_mask(mask)
    assert not mask.any()
    assert matcher.is_finished


def test_finished_means_that_nothing_can_be_added(byte_bench):
    matcher = byte_bench.grammar(Constraint(kind="ebnf", body='root ::= "a" | "ab"')).matcher([])
    assert matcher.accept(ord("a"))
    assert matcher.is_accepting
    assert not matcher.is_finished
    assert matcher.accept(ord("b"))
    assert matcher.is_finished


def test_ids_beyond_the_tokenizer_are_never_allowed(byte_bench):
    grammar = byte_bench.grammar(Constraint(kind="regex", body="(?s).*"))
    assert max(byte_bench.allowed(grammar.matcher([byte_bench.stop_id]))) == byte_bench.stop_id


def test_an_engine_that_gives_up_is_a_dead_end_with_a_reason(byte_bench):
    bomb = Constraint(kind="regex", body="((a{1,1000}){1,1000}){1,1000}")
    matcher = byte_bench.grammar(bomb).matcher([byte_bench.stop_id])
    for _ in range(400):
        if not matcher.accept(ord("a")):
            break
    assert matcher.failure is not None
    assert "too many expressions" in matcher.failure
    assert byte_bench.allowed(matcher) == []
    assert matcher.forced_tokens([]) == []
    assert not matcher.is_accepting
    assert not matcher.fork().accept(ord("a"))
