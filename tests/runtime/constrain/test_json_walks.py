"""Random walks through the masks of real schemas end in values that the schema's owner accepts."""

from __future__ import annotations

import datetime  # noqa: TC003  (pydantic reads the annotations)
import enum
import ipaddress  # noqa: TC003
import json
import uuid  # noqa: TC003
from typing import Annotated, Literal

import pydantic
import pytest
from pydantic import BaseModel, Field

from furcate.runtime.constrain.check import check_output


class Colour(enum.Enum):
    red = "red"
    green = "green"


class Point(BaseModel):
    x: int
    y: float | None = None
    label: str


class Bounded(BaseModel):
    name: Annotated[str, Field(min_length=2, max_length=5)]
    code: Annotated[str, Field(pattern=r"^[A-Z]{2}-\d{3}$")]
    short: Annotated[str, Field(pattern="^[a-z]+$", max_length=4)]
    count: Annotated[int, Field(ge=-3, lt=100)]
    share: Annotated[float, Field(gt=0, le=1)]
    step: Annotated[int, Field(multiple_of=5, ge=0, le=50)]
    tags: Annotated[list[str], Field(min_length=1, max_length=3)]


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str] = []


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    previous: list[Cat | Dog]
    colour: Colour = Field(description="their favourite")
    scores: dict[str, int]
    home: Point
    pair: tuple[int, str]


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Dated(BaseModel):
    day: datetime.date
    moment: datetime.datetime
    time: datetime.time
    span: datetime.timedelta
    key: uuid.UUID
    address: ipaddress.IPv4Address
    site: pydantic.AnyUrl


class Keyed(BaseModel):
    by_colour: dict[Colour, int]
    by_code: dict[Annotated[str, Field(pattern="^[a-z]{3}$")], bool]
    anything: object
    flag: bool | None


class Extra(BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: int


MODELS = [Point, Bounded, Owner, Tree, Dated, Keyed, Extra]
SCHEMAS: dict[str, object] = {
    "anything": {},
    "true": True,
    "number": {"type": "number"},
    "several types": {"type": ["integer", "null", "string"], "maxLength": 3},
    "values of one type": {"enum": ["a", 1, None, 2.5], "type": ["string", "null"]},
    "containers as constants": {"enum": [{"a": [1, "é"]}, []]},
    "letters before hexadecimal digits": {
        "type": "object",
        "properties": {"éa": {"enum": ["née", "café0", "😀f", "\x80a", "\\x41"]}},
        "required": ["éa"],
    },
    "constants with control characters": {
        "type": "array",
        "prefixItems": [{"const": "0\x1f"}, {"const": "\x7f"}, {"enum": ["a\nb", "\u2028"]}],
        "minItems": 3,
        "items": False,
    },
    "required without properties": {"type": "object", "required": ["q"]},
    "intersection": {
        "allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}],
        "$defs": {
            "a": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
            "b": {"type": "object", "properties": {"y": {"type": "boolean"}}, "required": ["y"]},
        },
    },
    "one of disjoint constants": {"oneOf": [{"const": "a"}, {"enum": ["b", "c"]}]},
    "one of disjoint types": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
    "implied types": {"properties": {"a": {"minimum": 3}, "b": {"minLength": 1}}},
    "tuple": {"type": "array", "prefixItems": [{"type": "integer"}], "items": False},
    "at least one key": {"type": "object", "additionalProperties": True, "minProperties": 1},
    "format beside pattern": {"type": "string", "format": "date", "pattern": "^20"},
}


@pytest.mark.parametrize("engine", ["auto", "llguidance"])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_walk_through_a_models_schema_is_an_instance(
    byte_bench, make_schema_constraint, model, engine
):
    constraint = make_schema_constraint(model.model_json_schema(), engine=engine)
    grammar = byte_bench.grammar(constraint)
    for seed in range(12):
        walk = byte_bench.walk(grammar, seed)
        if walk.is_complete:
            assert check_output(constraint, walk.text.decode()) is None, walk.text
            model.model_validate_json(walk.text)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS.keys())
@pytest.mark.parametrize("whitespace", ["compact", "bounded", "free"])
def test_a_walk_through_a_schema_is_valid(
    merging_bench, make_schema_constraint, schema, whitespace
):
    constraint = make_schema_constraint(schema, whitespace=whitespace)
    grammar = merging_bench.grammar(constraint)
    num_complete = 0
    for seed in range(8):
        walk = merging_bench.walk(grammar, seed)
        num_complete += walk.is_complete
        if walk.is_complete:
            assert check_output(constraint, walk.text.decode()) is None, walk.text
    assert num_complete > 0


@pytest.mark.parametrize("engine", ["xgrammar", "llguidance"])
@pytest.mark.parametrize(
    ("whitespace", "accepted"),
    [
        ("compact", ['{"a":[1,2]}']),
        ("bounded", ['{"a":[1,2]}', '{ "a" : [ 1 ,\n2 ] }', '{"a":\t[1, 2]}']),
        ("free", ['{"a":[1,2]}', '{\n   "a":   [1,    2]\n\n}']),
    ],
)
def test_white_space_is_limited_alike_by_both_engines(byte_bench, engine, whitespace, accepted):
    schema = {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"type": "integer"}}},
        "required": ["a"],
    }
    grammar = byte_bench.schema(schema, engine=engine, whitespace=whitespace)
    everything = ['{"a":[1,2]}', '{ "a" : [ 1 ,\n2 ] }', '{"a":\t[1, 2]}', '{"a":  [1,2]}']
    everything.append('{\n   "a":   [1,    2]\n\n}')
    for text in everything:
        fits = text in accepted or whitespace == "free"
        assert byte_bench.accepts(grammar, text) == fits, text
    assert not byte_bench.accepts(grammar, ' {"a":[1,2]}')


@pytest.mark.parametrize("engine", ["xgrammar", "llguidance"])
def test_properties_come_in_the_order_declared(byte_bench, engine):
    schema = {
        "type": "object",
        "properties": {name: {"type": "null"} for name in ("z", "a", "m")},
        "required": ["m", "z"],
    }
    grammar = byte_bench.schema(schema, engine=engine, whitespace="compact")
    assert byte_bench.accepts(grammar, '{"z":null,"a":null,"m":null}')
    assert byte_bench.accepts(grammar, '{"z":null,"m":null}')
    assert not byte_bench.accepts(grammar, '{"a":null,"z":null,"m":null}')
    assert not byte_bench.accepts(grammar, '{"z":null,"m":null,"q":1}')


@pytest.mark.parametrize("engine", ["xgrammar", "llguidance"])
@pytest.mark.parametrize(
    "text",
    [b'"\xed\xa0\x80"', rb'"\ud800"', rb'"\u0041"', b'"\x01"', b'"\n"', b'"\xff"', b'"\xc0\x80"'],
    ids=repr,
)
def test_strings_that_no_parser_reads_are_refused(byte_bench, engine, text):
    grammar = byte_bench.schema({"type": "string"}, engine=engine)
    assert not byte_bench.accepts(grammar, text)
    assert byte_bench.accepts(grammar, '"é \\n \\" 😀"')


@pytest.mark.parametrize("engine", ["xgrammar", "llguidance"])
@pytest.mark.parametrize("favourite", ["9", "\n", "0", ".", "e"], ids=repr)
def test_a_model_that_loves_one_character_still_ends_its_number(byte_bench, engine, favourite):
    schema = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}
    matcher = byte_bench.schema(schema, engine=engine).matcher([byte_bench.stop_id])
    written = bytearray()
    while not matcher.is_finished:
        allowed = byte_bench.allowed(matcher)
        byte = ord(favourite) if ord(favourite) in allowed else allowed[-1]
        assert matcher.accept(byte)
        written.append(byte)
        assert len(written) < 80, written
    json.loads(written)


def test_an_exponent_stays_within_a_double(byte_bench):
    grammar = byte_bench.schema({"type": "number"})
    assert byte_bench.accepts(grammar, "1.5e-12")
    assert not byte_bench.accepts(grammar, "1e999")
