"""Small schemas, each with values that fit and values that are wrong in one way."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["LEAVES", "Leaf"]


class Leaf(NamedTuple):
    schema: Any
    valid: list[Any]
    invalid: list[Any]


def _flat(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
        **more,
    }


_STRING, _INTEGER = {"type": "string"}, {"type": "integer"}

LEAVES: dict[str, Leaf] = {
    "string": Leaf(_STRING, ["", "plain words", 'quo"te \\ and\nline'], [1, None, ["a"]]),
    "integer": Leaf(_INTEGER, [0, -17, 123456], ["7", 1.5, True]),
    "number": Leaf({"type": "number"}, [0, -2.75, 31.5], ["1", False, {}]),
    "boolean": Leaf({"type": "boolean"}, [True, False, True], ["true", 0, None]),
    "null": Leaf({"type": "null"}, [None, None, None], [0, False, "null"]),
    "enum-few": Leaf({"enum": ["low", "high", "urgent"]}, ["low", "high", "urgent"],
                     ["lo", "High", None]),
    "enum-many": Leaf({"enum": [f"code-{i:03}" for i in range(400)]},
                      ["code-000", "code-177", "code-399"], ["code-400", "code-1", "code-"]),
    "enum-mixed": Leaf({"enum": [1, "1", None, True]}, [1, "1", None], [2, "2", False]),
    "const": Leaf({"const": "fixed value"}, ["fixed value"] * 3, ["fixed", "other", 1]),
    "const-escapes": Leaf({"const": 'tab\tquote"'}, ['tab\tquote"'] * 3, ["tab", "quote", 0]),
    "pattern-code": Leaf({"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"},
                         ["ABC-0001", "XYZ-9999", "QRS-1234"], ["abc-0001", "AB-0001", "ABC-01"]),
    "pattern-words": Leaf({"type": "string", "pattern": "^(red|green)( light)?$"},
                          ["red", "green light", "red light"], ["blue", "redlight", "green "]),
    "length": Leaf({"type": "string", "minLength": 2, "maxLength": 8},
                   ["ab", "abcdefgh", "naïve"], ["a", "abcdefghi", ""]),
    "date": Leaf({"type": "string", "format": "date"},
                 ["2024-02-29", "1999-12-31", "2031-01-01"], ["2024-13-01", "24-02-01", "today"]),
    "date-time": Leaf({"type": "string", "format": "date-time"},
                      ["2024-02-29T10:11:12Z", "1999-12-31T23:59:59+01:00", "2031-01-01T00:00:00Z"],
                      ["2024-02-29", "2024-02-29T25:00:00Z", "now"]),
    "uuid": Leaf({"type": "string", "format": "uuid"},
                 ["123e4567-e89b-12d3-a456-426614174000", "00000000-0000-0000-0000-000000000000",
                  "abcdefab-cdef-abcd-efab-cdefabcdefab"],
                 ["123e4567", "123e4567-e89b-12d3-a456-42661417400g", ""]),
    "email": Leaf({"type": "string", "format": "email"},
                  ["ada@example.org", "b.c@example.com", "x@y.zz"],
                  ["ada", "ada@", "@example.org"]),
    "ipv4": Leaf({"type": "string", "format": "ipv4"},
                 ["127.0.0.1", "10.20.30.40", "255.255.255.255"],
                 ["256.0.0.1", "1.2.3", "a.b.c.d"]),
    "bounds": Leaf({"type": "integer", "minimum": 1, "maximum": 50}, [1, 25, 50], [0, 51, -1]),
    "bounds-negative": Leaf({"type": "integer", "minimum": -40, "maximum": 7}, [-40, 0, 7],
                            [-41, 8, 100]),
    "bounds-open": Leaf({"type": "integer", "exclusiveMinimum": 0}, [1, 99, 12345], [0, -1, -99]),
    "number-bounds": Leaf({"type": "number", "minimum": 0, "maximum": 1}, [0, 0.5, 1],
                          [-0.5, 1.5, 2]),
    "multiple": Leaf({"type": "integer", "multipleOf": 5}, [0, 5, 115], [1, 7, 116]),
    "array": Leaf({"type": "array", "items": _INTEGER}, [[], [1], [3, 2, 1]],
                  [["a"], [1, None], {}]),
    "array-sized": Leaf({"type": "array", "items": _STRING, "minItems": 1, "maxItems": 3},
                        [["a"], ["a", "b"], ["a", "b", "c"]], [[], ["a"] * 4, [1]]),
    "tuple": Leaf({"type": "array", "prefixItems": [_STRING, _INTEGER], "items": False,
                   "minItems": 2}, [["a", 1], ["", 0], ["b", -3]],
                  [["a"], [1, "a"], ["a", 1, 2]]),
    "map": Leaf({"type": "object", "additionalProperties": _INTEGER},
                [{}, {"a": 1}, {"x y": 2, "z": 3}], [{"a": "1"}, [], {"a": 1, "b": None}]),
    "map-pattern": Leaf({"type": "object", "patternProperties": {"^x-[a-z]+$": _STRING},
                         "additionalProperties": False},
                        [{}, {"x-a": "1"}, {"x-ab": "", "x-c": "d"}],
                        [{"y": "1"}, {"x-a": 1}, {"x-1": "a"}]),
    "empty-object": Leaf(_flat({}), [{}, {}, {}], [{"a": 1}, [], None]),
    "record": Leaf(_flat({"name": _STRING, "age": _INTEGER}),
                   [{"name": "Ada", "age": 36}, {"name": "", "age": 0}, {"name": "B", "age": -1}],
                   [{"name": "Ada"}, {"name": 1, "age": 1}, {"name": "A", "age": 1, "more": 1}]),
    "unicode-keys": Leaf(_flat({"größe": _INTEGER, "名前": _STRING, 'a"b': _INTEGER}),
                         [{"größe": 1, "名前": "花子", 'a"b': 2},
                          {"größe": 0, "名前": "", 'a"b': 0},
                          {"größe": -5, "名前": "é", 'a"b': 3}],
                         [{"größe": 1, "名前": "x"}, {"größe": "1", "名前": "x", 'a"b': 1},
                          {"größe": 1, "名前": None, 'a"b': 1}]),
    "union": Leaf({"anyOf": [_INTEGER, {"type": "array", "items": _INTEGER}]}, [1, [], [1, 2]],
                  ["1", [None], {}]),
    "types": Leaf({"type": ["integer", "string", "null"]}, [1, "a", None], [1.5, [], True]),
    "tagged": Leaf({"anyOf": [_flat({"kind": {"const": "circle"}, "radius": _INTEGER}),
                              _flat({"kind": {"const": "box"}, "width": _INTEGER})]},
                   [{"kind": "circle", "radius": 1}, {"kind": "box", "width": 2},
                    {"kind": "box", "width": 0}],
                   [{"kind": "circle", "width": 1}, {"kind": "ball", "radius": 1},
                    {"kind": "box"}]),
    "unique": Leaf({"type": "array", "items": _INTEGER, "uniqueItems": True},
                   [[], [1], [1, 2]], [[1, 1], [2, 3, 2], ["a"]]),
    "not": Leaf({"type": "integer", "not": {"const": 5}}, [4, 6, 0], [5, "4", None]),
}  # fmt: skip
