"""Jump-forward: the tokens of forced text are the tokenizer's own, and the mask allows them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from furcate.protocol.constraint import Constraint

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "colour": {"enum": ["red", "green"]},
        "description": {"const": "description of the thing"},
    },
    "required": ["name", "colour", "description"],
}


def text_of(bench, ids):
    return b"".join(bench.toolkit.vocabulary.table[i] for i in ids)


@pytest.mark.parametrize("engine", ["xgrammar", "llguidance"])
def test_the_beginning_of_an_object_is_forced(merging_bench, engine):
    matcher = merging_bench.schema(PERSON, engine=engine, whitespace="compact").matcher([])
    forced = matcher.forced_tokens([])
    assert text_of(merging_bench, forced).startswith(b'{"name')
    assert len(forced) < len(b'{"name')
    assert forced == merging_bench.vocabulary.encode('{"name":"')[: len(forced)]


@pytest.mark.parametrize("engine", ["xgrammar", "llguidance"])
def test_nothing_is_forced_where_there_is_a_choice(merging_bench, engine):
    grammar = merging_bench.schema({"type": "integer"}, engine=engine)
    assert grammar.matcher([]).forced_tokens([]) == []


@pytest.mark.parametrize("engine", ["xgrammar", "llguidance"])
def test_text_after_which_the_output_ends_is_forced_to_its_last_token(merging_bench, engine):
    grammar = merging_bench.schema({"const": "description of the thing"}, engine=engine)
    matcher = grammar.matcher([merging_bench.stop_id])
    forced = matcher.forced_tokens([])
    assert text_of(merging_bench, forced) == b'"description of the thing"'
    assert all(matcher.accept(token_id) for token_id in forced)
    assert matcher.is_finished
    assert matcher.forced_tokens(forced) == []


@pytest.mark.parametrize("body", ['root ::= "a" | "abc"', 'root ::= "a" "bc"?'])
def test_nothing_is_forced_past_a_place_where_the_output_may_end(byte_bench, body):
    matcher = byte_bench.grammar(Constraint(kind="ebnf", body=body)).matcher([])
    assert matcher.accept(ord("a"))
    assert matcher.forced_tokens([ord("a")]) == []


@pytest.mark.parametrize("engine", ["xgrammar", "llguidance"])
def test_values_that_share_part_of_a_character_force_what_is_before_it(merging_bench, engine):
    grammar = merging_bench.schema({"enum": ["name é", "name è"]}, engine=engine)
    matcher = grammar.matcher([merging_bench.stop_id])
    forced = matcher.forced_tokens([])
    assert text_of(merging_bench, forced).startswith(b'"n')
    assert matcher.failure is None
    assert all(matcher.accept(token_id) for token_id in forced)


def test_a_forced_beginning_of_a_character_waits_for_its_end(merging_bench):
    grammar = merging_bench.grammar(Constraint(kind="regex", body="ab(é|è)"))
    forced = grammar.matcher([]).forced_tokens([])
    assert b"ab".startswith(text_of(merging_bench, forced))


@pytest.mark.parametrize("engine", ["xgrammar", "llguidance"])
@pytest.mark.parametrize("whitespace", ["compact", "bounded"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 60))
def test_forced_tokens_are_canonical_and_allowed_one_by_one(
    merging_bench, engine, whitespace, seed, cut
):
    grammar = merging_bench.schema(PERSON, engine=engine, whitespace=whitespace)
    walk = merging_bench.walk(grammar, seed, max_tokens=200)
    matcher, ids = grammar.matcher([merging_bench.stop_id]), walk.ids[:cut]
    assert all(matcher.accept(token_id) for token_id in ids)
    forced = matcher.forced_tokens(ids)
    if not forced:
        return
    alone = merging_bench.vocabulary.encode(text_of(merging_bench, ids + forced).decode())
    if alone[: len(ids)] == ids:  # what was sampled is canonical itself
        assert alone == ids + forced
    one_by_one = list(ids)
    for position, token_id in enumerate(forced):
        assert token_id in merging_bench.allowed(matcher)
        # One a step or all at once: the same tokens.
        assert matcher.forced_tokens(one_by_one) == forced[position:]
        assert matcher.accept(token_id)
        one_by_one.append(token_id)


@pytest.mark.parametrize("engine", ["xgrammar", "llguidance"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_no_continuation_changes_the_tokens_that_were_forced(merging_bench, engine, seed):
    """The whole output tokenizes to what jump-forward emitted wherever the rest is canonical."""
    grammar = merging_bench.schema(PERSON, engine=engine, whitespace="compact")
    walk = merging_bench.walk(grammar, seed, max_tokens=300)
    if not walk.is_complete:
        return
    canonical = merging_bench.vocabulary.encode(walk.text.decode())
    matcher, ids = grammar.matcher([]), list[int]()
    for token_id in canonical:
        forced = matcher.forced_tokens(ids)
        rest = canonical[len(ids) :]
        assert forced == rest[: len(forced)]
        assert matcher.accept(token_id)
        ids.append(token_id)
