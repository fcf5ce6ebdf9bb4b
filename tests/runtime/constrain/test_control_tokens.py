"""Control tokens are never text: not inside strings, not where a constant spells one."""

from __future__ import annotations

import pytest

from furcate.protocol.constraint import Constraint

CONSTRAINTS = {
    "free string": Constraint(kind="json_schema", body='{"type":"string"}'),
    "bounded string": Constraint(kind="json_schema", body='{"type":"string","maxLength":30}'),
    "constant": Constraint(kind="json_schema", body='{"const":"<|im_end|>"}'),
    "anything": Constraint(kind="json_schema", body="{}"),
    "regex": Constraint(kind="regex", body=r"(?s).{0,40}"),
    "spelt in a regex": Constraint(kind="regex", body=r"(<\|im_start\|>)?<\|im_end\|>"),
    "ebnf": Constraint(kind="ebnf", body='root ::= [^x]* "<|im_end|>"'),
    "lark by id": Constraint(kind="lark", body='start: "a" (<[256]> | "b")'),
}


@pytest.mark.parametrize("constraint", CONSTRAINTS.values(), ids=CONSTRAINTS.keys())
@pytest.mark.parametrize("bench_name", ["byte_bench", "merging_bench"])
def test_no_mask_has_a_control_id_but_the_stop_id_where_the_output_may_end(
    request, constraint, bench_name
):
    bench = request.getfixturevalue(bench_name)
    control_ids = bench.vocabulary.control_ids
    grammar = bench.grammar(constraint)
    for seed in range(3):
        walk = bench.walk(grammar, seed, max_tokens=60)
        matcher = grammar.matcher([bench.stop_id])
        for token_id in walk.ids:
            found = control_ids & set(bench.allowed(matcher))
            assert found == ({bench.stop_id} if matcher.is_accepting else set())
            assert matcher.accept(token_id)


@pytest.mark.parametrize("bench_name", ["byte_bench", "merging_bench"])
def test_a_constant_that_spells_a_control_token_is_ordinary_text(request, bench_name):
    bench = request.getfixturevalue(bench_name)
    walk = bench.walk(bench.schema({"const": "<|im_end|>"}), seed=0)
    assert walk.text == b'"<|im_end|>"'
    assert not bench.vocabulary.control_ids & set(walk.ids)
