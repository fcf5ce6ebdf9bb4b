"""A bound on lengths may be missing, never wrong."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furcate.protocol.constraint import Constraint
from furcate.runtime.constrain.longest import longest_output


def regex(pattern: str) -> int | None:
    return longest_output(Constraint(kind="regex", body=pattern))


def schema(value: object, whitespace: str = "bounded") -> int | None:
    body = json.dumps(value)
    return longest_output(
        Constraint(kind="json_schema", body=body, whitespace=whitespace)  # type: ignore[arg-type]
    )


def test_the_width_of_a_regex_is_its_bound() -> None:
    assert regex("[0-9]{1,4}") == 16
    assert regex("(yes|no|perhaps)") == 28
    assert regex("a*") is None
    assert regex("(ab){2,}c") is None
    assert regex("(") is None


@given(st.from_regex(r"(a|bc){1,3}[éü]?-(x{0,5}|yy)", fullmatch=True))
def test_no_match_is_longer(text: str) -> None:
    bound = regex(r"(a|bc){1,3}[éü]?-(x{0,5}|yy)")
    assert bound is not None
    assert len(text.encode()) <= bound


BOUNDED = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "kind": {"enum": ["a", "bb"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
        "size": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    },
    "additionalProperties": False,
}


@given(
    st.text(max_size=5),
    st.sampled_from(["a", "bb"]),
    st.lists(st.booleans(), max_size=3),
    st.none() | st.integers(-(10**20), 10**20),
    st.booleans(),
)
def test_no_value_of_a_closed_schema_is_longer_however_it_is_written(
    name: str, kind: str, tags: list[bool], size: int | None, escaped: bool
) -> None:
    bound = schema(BOUNDED)
    assert bound is not None
    value = {"name": name, "kind": kind, "tags": tags, "size": size}
    text = json.dumps(value, ensure_ascii=escaped)
    spread = re.sub(r'([{}\[\]:,])(?=(?:[^"\\]|\\.|"(?:[^"\\]|\\.)*")*$)', r" \1 ", text)
    assert len(spread.encode("utf-8", "surrogatepass")) <= bound


@pytest.mark.parametrize(
    "value",
    [
        True,
        {},
        {"type": "string"},
        {"type": "array", "items": {"type": "null"}},
        {"type": "object", "properties": {"a": {"type": "null"}}},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "additionalProperties": False},
        {"anyOf": [{"type": "null"}, {"type": "string"}]},
        {"type": "string", "maxLength": 3, "unheard": 1},
    ],
)
def test_what_has_no_limit_or_is_not_understood_has_no_bound(value: object) -> None:
    assert schema(value) is None


def test_white_space_without_end_has_none() -> None:
    assert schema({"type": "null"}, "free") is None
    assert longest_output(Constraint(kind="ebnf", body='root ::= "a"')) is None
