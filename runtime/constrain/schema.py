"""A JSON schema as text, checked before any engine sees it.

Knows JSON and the shape of schemas: size, depth, references, what the metaschema says. Which
keywords an engine enforces is `schema_routing`'s business.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import jsonschema_rs

from furcate.errors import ConstraintError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Schema", "Site", "map_children", "parse_schema", "pointer_to", "resolve", "walk"]

MAX_NODES = 5_000
MAX_DEPTH = 48
MAX_JSON_DEPTH = 128
MAX_ENUM_VALUES = 5_000

Schema = dict[str, Any] | bool

_NAMED_CHILDREN = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTED_CHILDREN = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE_CHILDREN = (
    "items",
    "additionalProperties",
    "additionalItems",
    "unevaluatedProperties",
    "unevaluatedItems",
    "propertyNames",
    "contains",
    "contentSchema",
    "not",
    "if",
    "then",
    "else",
)


class Site(NamedTuple):
    """A subschema and where it is: `path` from the root, `depth` in subschemas."""

    path: tuple[str, ...]
    schema: Schema
    depth: int


def pointer_to(path: tuple[str, ...]) -> str:
    """The JSON pointer of a path."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)


def walk(root: Schema) -> Iterator[Site]:
    """Every subschema, the root first; values such as constants and defaults are not schemas."""
    waiting = [Site((), root, 0)]
    while waiting:
        site = waiting.pop()
        yield site
        if isinstance(site.schema, dict):
            waiting.extend(
                Site((*site.path, *step), child, site.depth + 1)
                for step, child in _children(site.schema)
            )


def map_children(
    schema: dict[str, Any], transform: Callable[[tuple[str, ...], Schema], Schema]
) -> dict[str, Any]:
    """A copy with each direct subschema replaced; `transform` gets its path from here."""
    result = dict(schema)
    for step, child in _children(schema):
        container = result[step[0]]
        if len(step) == 1:
            result[step[0]] = transform(step, child)
            continue
        if container is schema[step[0]]:
            container = result[step[0]] = container.copy()
        container[step[1] if isinstance(container, dict) else int(step[1])] = transform(step, child)
    return result


def _children(schema: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], Schema]]:
    for keyword in _NAMED_CHILDREN:
        if isinstance(children := schema.get(keyword), dict):
            yield from (((keyword, name), child) for name, child in children.items())
    for keyword in _LISTED_CHILDREN:
        if isinstance(children := schema.get(keyword), list):
            yield from (((keyword, str(i)), child) for i, child in enumerate(children))
    for keyword in _SINGLE_CHILDREN:
        if isinstance(child := schema.get(keyword), dict | bool):
            yield (keyword,), child


def parse_schema(body: str) -> Schema:
    """The schema of a JSON text; raises ConstraintError, with a pointer where there is one."""
    root = _parse_json(body)
    if not isinstance(root, dict | bool):
        raise ConstraintError(
            f"a JSON schema is an object or a boolean, got {_shorten(root)}; wrap it in an object"
        )
    if root is False:
        raise ConstraintError("no value fits the JSON schema 'false'; leave the constraint out", "")
    _check_json_depth(root)
    _check_against_metaschema(root)
    _check_limits(root)
    _check_references(root)
    return root


def _parse_json(body: str) -> object:
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        raise ConstraintError(
            f"the JSON schema is nested too deep; at most {MAX_JSON_DEPTH} levels are allowed"
        ) from None
    except ValueError as error:
        raise ConstraintError(f"the JSON schema is not JSON: {error}; correct it") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name!r} is not a JSON value")


def _check_json_depth(root: object) -> None:
    level: list[object] = [root]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise ConstraintError(
        f"the JSON schema is nested too deep; at most {MAX_JSON_DEPTH} levels are allowed"
    )


def _check_against_metaschema(root: Schema) -> None:
    try:
        jsonschema_rs.meta.validate(root)
    except jsonschema_rs.ValidationError as error:
        path = tuple(str(part) for part in error.instance_path)
        raise ConstraintError(
            f"invalid JSON schema at {pointer_to(path)!r}: {error.message[:300]}", pointer_to(path)
        ) from None
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        raise ConstraintError(
            f"the JSON schema names a dialect that is not known: {str(error)[:300]}; "
            "leave '$schema' out",
            "/$schema",
        ) from None


def _check_limits(root: Schema) -> None:
    num_nodes = num_enum_values = 0
    for site in walk(root):
        num_nodes += 1
        if isinstance(site.schema, dict):
            num_enum_values += len(site.schema.get("enum", ()))
        for what, number, limit in (
            ("subschemas", num_nodes, MAX_NODES),
            ("levels of subschemas", site.depth, MAX_DEPTH),
            ("enum values in all", num_enum_values, MAX_ENUM_VALUES),
        ):
            if number > limit:
                pointer = pointer_to(site.path)
                raise ConstraintError(
                    f"the JSON schema is too large: more than {limit} {what} at {pointer!r}; "
                    "make it smaller",
                    pointer,
                )


def resolve(root: Schema, reference: str) -> Schema | None:
    """What a `$ref` within the document points to; None if it points to nothing or outside."""
    if not reference.startswith("#"):
        return None
    target: object = root
    for part in reference[1:].split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(target, dict) and name in target:
            target = target[name]
        elif isinstance(target, list) and name.isdecimal() and int(name) < len(target):
            target = target[int(name)]
        else:
            return None
    if reference not in ("#", "") and not reference.startswith("#/"):
        return None
    return target if isinstance(target, dict | bool) else None


def _check_references(root: Schema) -> None:
    for site in walk(root):
        if not isinstance(site.schema, dict):
            continue
        for keyword in ("$dynamicRef", "$recursiveRef", "$anchor", "$dynamicAnchor"):
            if keyword in site.schema:
                raise _reference_error(site, keyword, "cannot be enforced; use '#/$defs/...'")
        if site.path and "$id" in site.schema:
            raise _reference_error(site, "$id", "is allowed at the root only")
        if "$ref" in site.schema and resolve(root, site.schema["$ref"]) is None:
            value = site.schema["$ref"]
            raise _reference_error(
                site, "$ref", f"{value[:200]!r} points to nothing in this schema; define it there"
            )
    _Termination(root).check()


def _reference_error(site: Site, keyword: str, reason: str) -> ConstraintError:
    pointer = pointer_to((*site.path, keyword))
    return ConstraintError(f"{keyword!r} at {pointer!r} {reason}", pointer)


class _Termination:
    """Whether every value that a schema describes can end.

    A schema that is its own `$ref`, or an object that requires itself, describes no finite value.
    A subschema can end if what it must contain can: the smallest set with that property is computed
    by repeated passes over the subschemas.
    """

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._sites = list(walk(root))
        self._can_end: set[int] = set()

    def check(self) -> None:
        has_changed = True
        while has_changed:
            has_changed = False
            for site in reversed(self._sites):
                if id(site.schema) not in self._can_end and self._ends(site.schema):
                    self._can_end.add(id(site.schema))
                    has_changed = True
        if not self._is_known(self._root):
            raise ConstraintError(
                f"no finite value fits the JSON schema: {self._endless()!r} contains itself; "
                "make the reference optional",
                self._endless(),
            )

    def _endless(self) -> str:
        paths = [s.path for s in self._sites if not self._is_known(s.schema)]
        return pointer_to(next((p for p in paths if p[:1] in (("$defs",), ("definitions",))), ()))

    def _is_known(self, schema: Schema) -> bool:
        return isinstance(schema, bool) or id(schema) in self._can_end

    def _ends(self, schema: Schema) -> bool:
        if isinstance(schema, bool):
            return True
        if "$ref" in schema:
            target = resolve(self._root, schema["$ref"])
            if target is None or not self._is_known(target):
                return False
        if not all(self._is_known(part) for part in schema.get("allOf", ())):
            return False
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema and not any(self._is_known(part) for part in schema[keyword]):
                return False
        if not _may_be_only(schema, "object") and not _may_be_only(schema, "array"):
            return True
        return self._contents_end(schema)

    def _contents_end(self, schema: dict[str, Any]) -> bool:
        properties = schema.get("properties", {})
        if _may_be_only(schema, "object") and not all(
            self._is_known(properties[name])
            for name in schema.get("required", ())
            if name in properties
        ):
            return False
        needed = schema.get("minItems", 0) if _may_be_only(schema, "array") else 0
        prefix = schema.get("prefixItems", [])
        items = schema.get("items", True)
        return all(self._is_known(part) for part in prefix[:needed]) and (
            needed <= len(prefix) or not isinstance(items, dict) or self._is_known(items)
        )


def _may_be_only(schema: dict[str, Any], name: str) -> bool:
    """Whether every value of the schema is of this type, as generation reads it."""
    keywords = ("properties", "required") if name == "object" else ("items", "prefixItems")
    if "type" in schema:
        return bool(schema["type"] in (name, [name]))
    return any(keyword in schema for keyword in keywords) and "enum" not in schema


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
