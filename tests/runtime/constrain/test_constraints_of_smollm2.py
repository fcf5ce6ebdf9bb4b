"""The embedded model's vocabulary of 49,152 tokens: what the small vocabularies cannot show."""

from __future__ import annotations

import pytest

from furcate.protocol.constraint import Constraint
from furcate.runtime.constrain.check import check_output
from furcate.runtime.constrain.service import CompileService

pytestmark = [pytest.mark.slow, pytest.mark.smollm2]

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer"},
        "favourite_colour": {"enum": ["red", "green"]},
        "description": {"const": "a person, described"},
    },
    "required": ["name", "age", "favourite_colour", "description"],
}
CONSTRAINTS = {
    "object": Constraint(kind="json_schema", body="{}"),
    "string": Constraint(kind="json_schema", body='{"type":"string"}'),
    "bounded string": Constraint(kind="json_schema", body='{"type":"string","maxLength":9}'),
    "constant": Constraint(kind="json_schema", body='{"const":"<|im_end|><|im_start|>"}'),
    "regex": Constraint(kind="regex", body=r"[^a]{1,9}<\|im_end\|>"),
    "ebnf": Constraint(kind="ebnf", body='root ::= [^a]* "<|im_end|>"'),
}


@pytest.mark.parametrize("constraint", CONSTRAINTS.values(), ids=CONSTRAINTS.keys())
def test_control_tokens_are_never_text(smollm2_bench, constraint):
    grammar = smollm2_bench.grammar(constraint)
    control_ids = smollm2_bench.vocabulary.control_ids
    for seed in range(3):
        walk = smollm2_bench.walk(grammar, seed, max_tokens=40)
        matcher = grammar.matcher([smollm2_bench.stop_id])
        for token_id in walk.ids:
            found = control_ids & set(smollm2_bench.allowed(matcher))
            assert found == ({smollm2_bench.stop_id} if matcher.is_accepting else set())
            assert matcher.accept(token_id)
        if walk.is_complete and constraint.kind == "json_schema":
            assert check_output(constraint, walk.text.decode()) is None


@pytest.mark.parametrize("engine", ["xgrammar", "llguidance"])
def test_a_constant_that_spells_a_control_token_comes_from_ordinary_tokens(smollm2_bench, engine):
    grammar = smollm2_bench.schema({"const": "<|im_end|>"}, engine=engine)
    forced = grammar.matcher([smollm2_bench.stop_id]).forced_tokens([])
    assert forced == smollm2_bench.vocabulary.encode('"<|im_end|>"')
    assert not smollm2_bench.vocabulary.control_ids & set(forced)


@pytest.mark.parametrize("whitespace", ["compact", "bounded"])
def test_forced_tokens_are_those_of_the_whole_output(smollm2_bench, whitespace):
    vocabulary = smollm2_bench.vocabulary
    grammar = smollm2_bench.schema(PERSON, whitespace=whitespace)
    spaced = whitespace != "compact"
    comma, colon = (", ", ": ") if spaced else (",", ":")
    fields = ['"name"' + colon + '"Ada"', '"age"' + colon + "36"]
    fields += ['"favourite_colour"' + colon + '"red"']
    fields += ['"description"' + colon + '"a person, described"']
    canonical = vocabulary.encode("{" + comma.join(fields) + "}")
    matcher, ids, num_forced = grammar.matcher([smollm2_bench.stop_id]), list[int](), 0
    while len(ids) < len(canonical):
        forced = matcher.forced_tokens(ids)
        assert forced == canonical[len(ids) : len(ids) + len(forced)]
        num_forced += bool(forced)
        assert matcher.accept(canonical[len(ids)])
        ids.append(canonical[len(ids)])
    assert matcher.is_finished
    assert num_forced >= 5


def test_forced_tokens_follow_the_context_of_the_prompt(smollm2_bench):
    vocabulary = smollm2_bench.vocabulary
    grammar = smollm2_bench.grammar(Constraint(kind="regex", body=" world"))
    prompt = vocabulary.encode("Hello")
    forced = grammar.matcher([smollm2_bench.stop_id]).forced_tokens(prompt)
    assert prompt + forced == vocabulary.encode("Hello world")


def test_the_service_compiles_for_the_whole_vocabulary(smollm2_bench, make_schema_constraint):
    service = CompileService(smollm2_bench.vocabulary, 49_152)
    try:
        for constraint in (make_schema_constraint(PERSON), *CONSTRAINTS.values()):
            ticket = service.request(constraint)
            assert ticket.wait(60)
            assert ticket.error is None
            matcher = ticket.grammar.matcher([smollm2_bench.stop_id])
            allowed = set(smollm2_bench.allowed(matcher))
            here = smollm2_bench.grammar(constraint).matcher([smollm2_bench.stop_id])
            assert allowed == set(smollm2_bench.allowed(here))
    finally:
        service.close()
