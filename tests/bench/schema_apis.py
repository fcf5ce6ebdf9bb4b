"""Schemas as interfaces have them, each with instances of its own."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from tests.bench.schema_leaves import Leaf

__all__ = ["APIS"]

_TEXT, _COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}


def _closed(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _with(value: Any, *path_and_new: Any) -> Any:
    """A copy with one place changed."""
    *path, last, new = path_and_new
    copy = deepcopy(value)
    place = copy
    for step in path:
        place = place[step]
    place[last] = new
    return copy


def _without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: kept for key, kept in value.items() if key != name}


_TICKET = {"subject": "No signal", "priority": "high", "tags": ["network"], "assignee": None}
_INVOICE = {
    "number": "INV-2024-0042",
    "date": "2024-05-17",
    "lines": [{"item": "Paper", "quantity": 3, "price": 4.5}],
    "currency": "EUR",
}
_POINT = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [13.4, 52.5]}}
_LINE = {"type": "LineString", "coordinates": [[0, 1], [2, 3]]}
_PATIENT = {
    "resourceType": "Patient",
    "name": [{"family": "Curie", "given": ["Marie"]}],
    "gender": "female",
    "birthDate": "1967-11-07",
}
_WEATHER = {"name": "weather", "arguments": {"city": "Oslo", "unit": "celsius"}}
_SEARCH = {"name": "search", "arguments": {"query": "fjords", "limit": 5}}
_SUM = {"op": "+", "left": {"value": 1}, "right": {"op": "*", "left": {"value": 2},
        "right": {"value": 3}}}  # fmt: skip
_PERSON = {"id": 3, "pet": {"kind": "cat", "lives": 9}}
_COORDINATES = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}

APIS: dict[str, Leaf] = {
    "ticket": Leaf(
        _closed({
            "subject": _TEXT,
            "priority": {"enum": ["low", "normal", "high"]},
            "tags": {"type": "array", "items": _TEXT, "maxItems": 5},
            "assignee": {"type": ["string", "null"]},
        }, "assignee"),
        [_TICKET, _without(_TICKET, "assignee"), _with(_TICKET, "tags", [])],
        [_with(_TICKET, "priority", "urgent"), _without(_TICKET, "subject"),
         _with(_TICKET, "tags", ["t"] * 6)],
    ),
    "invoice": Leaf(
        _closed({
            "number": {"type": "string", "pattern": "^INV-[0-9]{4}-[0-9]{4}$"},
            "date": {"type": "string", "format": "date"},
            "lines": {"type": "array", "minItems": 1, "items": _closed(
                {"item": _TEXT, "quantity": {"type": "integer", "minimum": 1},
                 "price": {"type": "number", "minimum": 0}})},
            "currency": {"enum": ["EUR", "USD"]},
        }),
        [_INVOICE, _with(_INVOICE, "lines", 0, "price", 0), _with(_INVOICE, "currency", "USD")],
        [_with(_INVOICE, "number", "INV-1"), _with(_INVOICE, "lines", []),
         _with(_INVOICE, "lines", 0, "quantity", 0)],
    ),
    "geojson": Leaf(
        _closed({"type": {"const": "Feature"}, "geometry": {"oneOf": [
            _closed({"type": {"const": "Point"}, "coordinates": _COORDINATES}),
            _closed({"type": {"const": "LineString"},
                     "coordinates": {"type": "array", "items": _COORDINATES, "minItems": 2}}),
        ]}}),
        [_POINT, _with(_POINT, "geometry", _LINE),
         _with(_POINT, "geometry", "coordinates", [0, 0])],
        [_with(_POINT, "geometry", "type", "LineString"), _with(_POINT, "type", "feature"),
         _with(_POINT, "geometry", "coordinates", [1])],
    ),
    "patient": Leaf(
        _closed({
            "resourceType": {"const": "Patient"},
            "name": {"type": "array", "items": _closed(
                {"family": _TEXT, "given": {"type": "array", "items": _TEXT}})},
            "gender": {"enum": ["male", "female", "other", "unknown"]},
            "birthDate": {"type": "string", "format": "date"},
        }, "birthDate"),
        [_PATIENT, _without(_PATIENT, "birthDate"), _with(_PATIENT, "name", [])],
        [_with(_PATIENT, "gender", "f"), _with(_PATIENT, "birthDate", "1967"),
         _with(_PATIENT, "name", 0, "given", "Marie")],
    ),
    "tool-call": Leaf(
        {"anyOf": [
            _closed({"name": {"const": "weather"}, "arguments": _closed(
                {"city": _TEXT, "unit": {"enum": ["celsius", "fahrenheit"]}})}),
            _closed({"name": {"const": "search"}, "arguments": _closed(
                {"query": _TEXT, "limit": {"type": "integer", "minimum": 1, "maximum": 20}},
                "limit")}),
        ]},
        [_WEATHER, _SEARCH, _with(_SEARCH, "arguments", {"query": ""})],
        [_with(_WEATHER, "name", "search"), _with(_SEARCH, "arguments", "limit", 21),
         _with(_WEATHER, "arguments", "unit", "kelvin")],
    ),
    "expression": Leaf(
        {"$ref": "#/$defs/expression", "$defs": {"expression": {"anyOf": [
            _closed({"value": {"type": "integer"}}),
            _closed({"op": {"enum": ["+", "*"]}, "left": {"$ref": "#/$defs/expression"},
                     "right": {"$ref": "#/$defs/expression"}}),
        ]}}},
        [{"value": 1}, _SUM, _with(_SUM, "left", _SUM)],
        [_with(_SUM, "op", "-"), _without(_SUM, "right"), _with(_SUM, "left", 1)],
    ),
    "discriminated": Leaf(
        _closed({"id": _COUNT, "pet": {
            "oneOf": [_closed({"kind": {"const": "cat"}, "lives": _COUNT}),
                      _closed({"kind": {"const": "dog"}, "barks": {"type": "boolean"}})],
            "discriminator": {"propertyName": "kind"},
        }}),
        [_PERSON, _with(_PERSON, "pet", {"kind": "dog", "barks": True}), _with(_PERSON, "id", 0)],
        [_with(_PERSON, "pet", "kind", "dog"), _with(_PERSON, "pet", "lives", -1),
         _with(_PERSON, "id", -3)],
    ),
    "draft-07": Leaf(
        {"$schema": "http://json-schema.org/draft-07/schema#", **_closed({
            "pair": {"type": "array", "items": [{"$ref": "#/definitions/side"}, _COUNT],
                     "additionalItems": False, "minItems": 2},
        }), "definitions": {"side": {"enum": ["left", "right"]}}},
        [{"pair": ["left", 1]}, {"pair": ["right", 0]}, {"pair": ["left", 12]}],
        [{"pair": ["up", 1]}, {"pair": ["left"]}, {"pair": ["left", 1, 2]}],
    ),
    "conditional": Leaf(
        {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
         "if": {"required": ["a"]}, "then": {"required": ["b"]}},
        [{}, {"b": 1}, {"a": 1, "b": 2}], [{"a": 1}, {"a": "1", "b": 2}, []],
    ),
}  # fmt: skip
