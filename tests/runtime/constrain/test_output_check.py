"""Validation of finished outputs."""

from __future__ import annotations

import pytest

from furcate.protocol.constraint import Constraint
from furcate.runtime.constrain.check import OutputCheck, check_output

PERSON = Constraint(
    kind="json_schema",
    body='{"type":"object","properties":{"a/b":{"items":{"type":"integer"}},"n":{"maximum":3}}}',
)


@pytest.mark.parametrize(
    ("constraint", "text", "problem"),
    [
        (PERSON, '{"a/b":[1,2],"n":1}', None),
        (PERSON, '{"a/b":[1,"x"]}', "at '/a~1b/1'"),
        (PERSON, '{"n":4}', "at '/n'"),
        (PERSON, "[]", "at ''"),
        (PERSON, '{"a/b":', "is not JSON"),
        (PERSON, "[" * 100_000, "is not JSON"),
        (PERSON, '{"n":1e999}', "'1e999' is not a finite number"),
        (PERSON, '{"n":NaN}', "'NaN' is not a finite number"),
        (Constraint(kind="regex", body="[ab]+c"), "abac", None),
        (Constraint(kind="regex", body="[ab]+c"), "abxc", "at byte 2"),
        (Constraint(kind="regex", body="[ab]+c"), "aba", "ends before"),
        (Constraint(kind="regex", body="[ab]+c"), "abcc", "at byte 3"),
        (Constraint(kind="regex", body="é?"), "", None),
        (Constraint(kind="regex", body="(a*)*b"), "a" * 2_000 + "b", None),
        (Constraint(kind="ebnf", body='root ::= "a"'), "anything", None),
    ],
)
def test_a_finished_output_is_checked_against_its_constraint(constraint, text, problem):
    found = check_output(constraint, text)
    assert found == problem or (found is not None and problem is not None and problem in found)


def test_a_check_serves_many_outputs():
    check = OutputCheck(Constraint(kind="regex", body="a+"))
    assert [check.problem(text) is None for text in ("a", "b", "aa", "", "a")] == [
        True,
        False,
        True,
        False,
        True,
    ]


def test_a_pattern_that_ruins_backtracking_engines_is_checked_in_linear_time():
    check = OutputCheck(Constraint(kind="json_schema", body='{"pattern":"^(a+)+$"}'))
    assert check.problem('"' + "a" * 50_000 + 'b"') is not None
