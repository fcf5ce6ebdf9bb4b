"""What is refused before an engine sees it, and what each refusal says."""

from __future__ import annotations

import json

import pytest

from furcate.errors import ConstraintError
from furcate.protocol.constraint import Constraint
from furcate.runtime.constrain.recipe import prepare


def nested(levels):
    return '{"type":"object","properties":{"a":' * levels + "{}" + "}}" * levels


REFUSED = {
    "not JSON": ("{", "is not JSON", None),
    "not a schema": ("[1]", "an object or a boolean, got", None),
    "no value": ("false", "no value fits", ""),
    "a constant JSON does not have": ('{"const": NaN}', "'NaN' is not a JSON value", None),
    "a number of a million digits": ('{"const":' + "1" * 10_000 + "}", "is not JSON", None),
    "unknown type": ('{"type":"strin"}', "invalid JSON schema", "/type"),
    "property that is no schema": ('{"properties":{"f":"b"}}', "invalid", "/properties/f"),
    "unknown dialect": ('{"$schema":"http://no/such"}', "dialect", "/$schema"),
    "nested too deep": (nested(60), "levels of subschemas", None),
    "nested absurdly": (nested(5_000), "nested too deep", None),
    "deep constant": ('{"const":' + "[" * 300 + "]" * 300 + "}", "nested too deep", None),
    "too many values": (json.dumps({"enum": list(range(5_001))}), "enum values in all", ""),
    "too many subschemas": (json.dumps({"anyOf": [{}] * 5_001}), "more than 5000 subschemas", None),
    "too large": ('{"const":"' + "a" * 300_000 + '"}', "may have 262144 bytes", None),
    "self reference": (
        '{"$defs":{"a":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}',
        "contains itself",
        "/$defs/a",
    ),
    "object that requires itself": (
        '{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}',
        "contains itself",
        "",
    ),
    "array that must contain itself": (
        '{"type":"array","items":{"$ref":"#"},"minItems":1}',
        "contains itself",
        "",
    ),
    "reference to the web": ('{"$ref":"http://x/y"}', "points to nothing", "/$ref"),
    "dangling reference": ('{"items":{"$ref":"#/$defs/b"}}', "points to nothing", "/items/$ref"),
    "dynamic reference": ('{"$dynamicRef":"#a"}', "cannot be enforced", "/$dynamicRef"),
    "misspelt keyword": ('{"type":"string","maxlength":3}', "write 'maxLength'", "/maxlength"),
    "nullable": ('{"type":"string","nullable":true}', "anyOf with a null", "/nullable"),
    "unique items": ('{"items":{"uniqueItems":true}}', "'uniqueItems'", "/items/uniqueItems"),
    "negation": ('{"not":{"type":"string"}}', "'not'", "/not"),
    "condition": ('{"if":{"type":"integer"},"then":{"minimum":5}}', "'if'", "/if"),
    "contains": ('{"contains":{"type":"integer"}}', "'contains'", "/contains"),
    "dependent keys": ('{"dependentRequired":{"a":["b"]}}', "", "/dependentRequired"),
    "escaped pointer": (
        '{"properties":{"a/b~c":{"not":{}}}}',
        "'not'",
        "/properties/a~1b~0c/not",
    ),
    "branches that overlap": (
        '{"oneOf":[{"properties":{}},{"properties":{},"required":["a"]}]}',
        "branches that may overlap",
        "/oneOf",
    ),
    "unknown format": ('{"type":"string","format":"iban"}', "format 'iban'", "/format"),
    "no constant fits": ('{"enum":["a"],"type":"integer"}', "no value of 'enum'", "/enum"),
    "empty enumeration": ('{"enum":[]}', "enum", "/enum"),
    "constant beyond 64 bits": ('{"enum":[1' + "0" * 40 + "]}", "above 2**53", "/enum"),
    "two repeated keys": (
        '{"type":"object","additionalProperties":{"type":"null"},"minProperties":2}',
        "'minProperties' above 1",
        "/minProperties",
    ),
}


@pytest.mark.parametrize(("body", "message", "pointer"), REFUSED.values(), ids=REFUSED.keys())
def test_a_schema_is_refused_with_the_reason_and_the_place(body, message, pointer):
    with pytest.raises(ConstraintError) as caught:
        prepare(Constraint(kind="json_schema", body=body))
    assert message in str(caught.value)
    if pointer is not None:
        assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("regex", "", "is empty"),
        ("regex", "a" * 5_000, "may have 4096 bytes"),
        ("regex", "a\0b", r"contains the character '\x00' at 1"),
        ("regex", "a\ud800", r"contains the character '\ud800' at 1"),
        ("ebnf", 'r ::= "a"\n' * 5_001, "may have 5000 rules"),
        ("lark", "start: " + "x" * 300_000, "may have 262144 bytes"),
    ],
)
def test_a_grammar_over_its_limits_is_refused(kind, body, message):
    with pytest.raises(ConstraintError) as caught:
        prepare(Constraint(kind=kind, body=body))
    assert message in str(caught.value)


ROUTES = {
    "plain object": ({"type": "object", "properties": {"a": {"type": "string"}}}, "xgrammar"),
    "annotations": ({"type": "string", "title": "T", "x-mine": 1, "default": "q"}, "xgrammar"),
    "harmless zeros": ({"type": "array", "minItems": 0, "uniqueItems": False}, "xgrammar"),
    "integer range": ({"type": "integer", "minimum": 0, "maximum": 9}, "xgrammar"),
    "length": ({"type": "string", "maxLength": 3}, "llguidance"),
    "pattern": ({"type": "string", "pattern": "^a+$"}, "llguidance"),
    "pattern and length": ({"type": "string", "pattern": "^a+$", "maxLength": 3}, "llguidance"),
    "number range": ({"type": "number", "minimum": 0}, "llguidance"),
    "all of": ({"allOf": [{"type": "string"}, {"maxLength": 2}]}, "llguidance"),
    "lone all of": ({"allOf": [{"type": "string"}]}, "xgrammar"),
    "described reference": (
        {"$ref": "#/$defs/a", "description": "d", "$defs": {"a": {"type": "null"}}},
        "xgrammar",
    ),
    "constant object": ({"const": {"a": 1}}, "llguidance"),
    "tagged union": (
        {
            "oneOf": [
                {"type": "object", "properties": {"k": {"const": tag}}, "required": ["k"]}
                for tag in ("a", "b")
            ]
        },
        "xgrammar",
    ),
    "keys beside properties": (
        {"properties": {"a": {}}, "additionalProperties": {"type": "null"}},
        "llguidance",
    ),
}


@pytest.mark.parametrize(("schema", "engine"), ROUTES.values(), ids=ROUTES.keys())
def test_a_schema_goes_to_the_engine_that_enforces_all_of_it(schema, engine):
    recipe = prepare(Constraint(kind="json_schema", body=json.dumps(schema)))
    assert recipe.engine == engine


def test_a_forced_engine_that_cannot_enforce_is_an_error():
    body = '{"items":{"type":"string","pattern":"a"}}'
    with pytest.raises(ConstraintError, match="'xgrammar' cannot enforce") as caught:
        prepare(Constraint(kind="json_schema", body=body, engine="xgrammar"))
    assert caught.value.pointer == "/items/pattern"
    with pytest.raises(ConstraintError, match="does not take regex"):
        prepare(Constraint(kind="regex", body="a", engine="xgrammar"))
    with pytest.raises(ConstraintError, match="'outlines' is not available"):
        prepare(Constraint(kind="regex", body="a", engine="outlines"))


def test_the_schema_given_is_not_changed_by_its_normal_form(byte_bench):
    """Shared subschemas would be a way for one constraint to change another."""
    from furcate.runtime.constrain.schema import parse_schema
    from furcate.runtime.constrain.schema_normal import normalize

    body = json.dumps(
        {
            "properties": {"a": {"format": "date", "pattern": "^2", "type": "string"}},
            "required": ["b"],
            "oneOf": [{"type": "object", "allOf": [{"title": "x"}]}],
        }
    )
    schema = parse_schema(body)
    normalize(schema)
    assert json.dumps(schema) == body
