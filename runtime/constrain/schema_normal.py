"""A checked schema in the one form that routing and engines expect.

Every change narrows or keeps what the schema describes: annotations go, types are named where a
keyword implies one, objects list their properties, formats become patterns, constants that cannot
fit go. The finished output is still validated against the schema as it was given.
"""

from __future__ import annotations

from typing import Any

import jsonschema_rs

from furcate.errors import ConstraintError

from .formats import ANNOTATION_FORMATS, FORMAT_PATTERNS
from .schema import Schema, map_children, pointer_to, resolve, walk

__all__ = ["KEYWORDS", "normalize"]

_ANNOTATIONS = frozenset(
    {
        "$comment", "$id", "$schema", "contentEncoding", "contentMediaType", "contentSchema",
        "default", "deprecated", "description", "discriminator", "example", "examples",
        "readOnly", "title", "writeOnly",
    }
)  # fmt: skip
_FAMILIES: dict[str, frozenset[str]] = {
    "object": frozenset(
        {
            "properties", "patternProperties", "additionalProperties", "required",
            "minProperties", "maxProperties", "propertyNames", "dependentRequired",
            "dependentSchemas", "unevaluatedProperties",
        }
    ),
    "array": frozenset(
        {
            "items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems",
            "contains", "minContains", "maxContains", "unevaluatedItems",
        }
    ),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "number": frozenset(
        {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
    ),
}  # fmt: skip
_APPLICATORS = frozenset(
    {"$ref", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "enum", "const", "type"}
)
KEYWORDS = _APPLICATORS.union(*_FAMILIES.values(), {"$defs", "definitions"})
_KNOWN_BY_LOWER_CASE = {keyword.lower(): keyword for keyword in KEYWORDS | _ANNOTATIONS}
_HARMLESS = {
    "uniqueItems": False, "minItems": 0, "minLength": 0, "minProperties": 0, "minContains": 0,
}  # fmt: skip
_INT32 = 2**31


def normalize(root: Schema) -> Schema:
    """A new schema; `root` is not changed. Raises ConstraintError for what cannot be meant."""
    return _Normalizer(root).run()


class _Normalizer:
    def __init__(self, root: Schema) -> None:
        self._root = root
        self._shared: dict[str, Any] = (
            {k: root[k] for k in ("$defs", "definitions") if k in root}
            if isinstance(root, dict)
            else {}
        )
        self._open_targets = self._find_open_targets()

    def run(self) -> Schema:
        return self._schema(self._root, (), is_closed_by_default=True)

    def _schema(
        self, schema: Schema, path: tuple[str, ...], *, is_closed_by_default: bool
    ) -> Schema:
        if isinstance(schema, bool):
            return schema
        result = self._keywords(schema, path)
        if result.keys() & KEYWORDS - {"$defs", "definitions"} == {"allOf"}:
            result = self._inline_single(result, path)
        self._name_the_type(result)
        self._filter_values(result, path)
        self._replace_format(result, path)
        # A closed part of an intersection would forbid the properties of the other parts.
        is_open = id(schema) in self._open_targets or not is_closed_by_default
        if not is_open and not result.keys() & {"$ref", "allOf", "anyOf", "oneOf"}:
            self._name_the_keys(result)
            self._close(result)
        self._choose_branches(result)
        return self._with_children(result, path)

    def _inline_single(self, schema: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
        """An `allOf` of one part and nothing else is that part."""
        while schema.keys() - {"$defs", "definitions"} == {"allOf"} and len(schema["allOf"]) == 1:
            part = schema["allOf"][0]
            if not isinstance(part, dict):
                break
            del schema["allOf"]
            schema.update(self._keywords(part, (*path, "allOf", "0")))
        return schema

    def _keywords(self, schema: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
        """Without annotations; a misspelt keyword is an error, an unknown one an annotation."""
        result: dict[str, Any] = {}
        for keyword, value in schema.items():
            if keyword in KEYWORDS:
                if keyword not in _HARMLESS or value != _HARMLESS[keyword]:
                    result[keyword] = value
            elif keyword not in _ANNOTATIONS:
                self._refuse_misspelt(keyword, path)
        return result

    @staticmethod
    def _refuse_misspelt(keyword: str, path: tuple[str, ...]) -> None:
        pointer = pointer_to((*path, keyword))
        if keyword == "nullable":
            raise ConstraintError(
                f"'nullable' at {pointer!r} is not JSON Schema; use anyOf with a null type", pointer
            )
        meant = _KNOWN_BY_LOWER_CASE.get(keyword.lower().replace("_", "").replace("-", ""))
        if meant is not None:
            raise ConstraintError(
                f"unknown keyword {keyword!r} at {pointer!r}; write {meant!r}", pointer
            )

    @staticmethod
    def _name_the_type(schema: dict[str, Any]) -> None:
        if schema.keys() & _APPLICATORS:
            return
        families = [name for name, keywords in _FAMILIES.items() if schema.keys() & keywords]
        if len(families) == 1:
            schema["type"] = families[0]

    def _filter_values(self, schema: dict[str, Any], path: tuple[str, ...]) -> None:
        """Leaves of `enum` and `const` the values that the other keywords allow, and only those."""
        keyword = "const" if "const" in schema else "enum"
        if keyword not in schema:
            return
        values = [schema["const"]] if keyword == "const" else schema["enum"]
        rest = {k: v for k, v in schema.items() if k != keyword and k not in self._shared}
        if rest:
            try:
                validator = jsonschema_rs.validator_for(
                    {**self._shared, **rest}, pattern_options=jsonschema_rs.RegexOptions()
                )
            except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError):
                return  # a reference into the rest of the document, or a pattern for the engine
            values = [value for value in values if validator.is_valid(value)]
        if not values:
            pointer = pointer_to((*path, keyword))
            raise ConstraintError(
                f"no value of {keyword!r} at {pointer!r} fits the keywords beside it", pointer
            )
        for name in rest:
            del schema[name]
        schema.pop(keyword)
        schema["enum"] = values

    @staticmethod
    def _replace_format(schema: dict[str, Any], path: tuple[str, ...]) -> None:
        name = schema.get("format")
        if not isinstance(name, str):
            return
        del schema["format"]
        if name == "int32":
            schema["minimum"] = max(schema.get("minimum", -_INT32), -_INT32)
            schema["maximum"] = min(schema.get("maximum", _INT32 - 1), _INT32 - 1)
        elif name in FORMAT_PATTERNS:
            pattern = FORMAT_PATTERNS[name]
            if "pattern" in schema:
                schema.setdefault("allOf", []).append({"type": "string", "pattern": pattern})
            else:
                schema["pattern"] = pattern
        elif name not in ANNOTATION_FORMATS:
            pointer = pointer_to((*path, "format"))
            raise ConstraintError(
                f"format {name!r} at {pointer!r} cannot be enforced; use a pattern "
                f"(formats: {', '.join(sorted(FORMAT_PATTERNS))})",
                pointer,
            )

    def _name_the_keys(self, schema: dict[str, Any]) -> None:
        """Turns conditions on the names of a plain mapping into properties or patterns."""
        names = self._target(schema.get("propertyNames", True))
        if not isinstance(names, dict) or schema.keys() & {"properties", "patternProperties"}:
            return
        values = schema.get("additionalProperties", True)
        facts = {k: v for k, v in names.items() if k not in _ANNOTATIONS}
        if facts.get("type") == "string":
            del facts["type"]
        if facts.keys() == {"enum"} and all(isinstance(name, str) for name in facts["enum"]):
            schema["properties"] = dict.fromkeys(facts["enum"], values)
        elif facts.keys() == {"const"} and isinstance(facts["const"], str):
            schema["properties"] = {facts["const"]: values}
        elif facts.keys() == {"pattern"}:
            schema["patternProperties"] = {facts["pattern"]: values}
        else:
            return
        del schema["propertyNames"]
        schema["additionalProperties"] = False

    @staticmethod
    def _close(schema: dict[str, Any]) -> None:
        """Lists required names among the properties; allows no others where none are described."""
        if not schema.keys() & {"properties", "patternProperties", "required"}:
            return
        properties = dict(schema.get("properties", {}))
        others = schema.get("additionalProperties", True)
        if not schema.keys() & {"patternProperties", "unevaluatedProperties", "propertyNames"}:
            for name in schema.get("required", ()):
                if name not in properties and others is not False:
                    properties[name] = others
        if schema.keys() & {"properties", "patternProperties"} and "propertyNames" not in schema:
            schema.setdefault("additionalProperties", False)
        if properties:
            schema["properties"] = properties

    def _choose_branches(self, schema: dict[str, Any]) -> None:
        """`oneOf` is `anyOf` where no value fits two branches."""
        if "oneOf" in schema and "anyOf" not in schema and self._are_disjoint(schema["oneOf"]):
            schema["anyOf"] = schema.pop("oneOf")

    def _are_disjoint(self, branches: list[Schema]) -> bool:
        resolved = [self._target(branch) for branch in branches]
        if len(resolved) == 1:
            return True
        constants = [_strings(branch) for branch in resolved]
        if all(constants) and sum(map(len, constants)) == len(frozenset().union(*constants)):
            return True
        types = [_types(branch) for branch in resolved]
        if all(types) and sum(map(len, types)) == len(frozenset().union(*types)):
            return True
        tags = [_tags(branch) for branch in resolved]
        for name in set.intersection(*(set(t) for t in tags)) if tags else ():
            values = [value for t in tags for value in t[name]]
            if len(values) == len(set(values)):
                return True
        return False

    def _target(self, schema: Schema) -> Schema:
        for _ in range(32):
            if not (isinstance(schema, dict) and "$ref" in schema):
                break
            schema = resolve(self._root, schema["$ref"]) or False
        return schema

    def _with_children(self, schema: dict[str, Any], path: tuple[str, ...]) -> Schema:
        def transform(step: tuple[str, ...], child: Schema) -> Schema:
            in_intersection = step[0] == "allOf" or (
                step[0] in ("anyOf", "oneOf") and bool(schema.keys() & {"properties", "allOf"})
            )
            return self._schema(child, (*path, *step), is_closed_by_default=not in_intersection)

        return map_children(schema, transform)

    def _find_open_targets(self) -> set[int]:
        """The subschemas that an intersection refers to; closing one would close them all."""
        targets = set()
        for site in walk(self._root):
            if isinstance(site.schema, dict) and "allOf" in site.schema:
                for part in site.schema["allOf"] if _is_intersection(site.schema) else ():
                    targets.add(id(self._target(part)))
        return targets


def _is_intersection(schema: dict[str, Any]) -> bool:
    facts = schema.keys() & KEYWORDS - {"$defs", "definitions", "allOf"}
    return bool(facts) or len(schema["allOf"]) > 1


def _types(schema: Schema) -> frozenset[str]:
    """The types of a schema; empty if they are not known. An integer is a number too."""
    if not isinstance(schema, dict) or "type" not in schema:
        return frozenset()
    named = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return frozenset("number" if name == "integer" else name for name in named)


def _strings(schema: Schema) -> frozenset[str]:
    """The values of a schema of constant strings; empty for any other."""
    if not isinstance(schema, dict):
        return frozenset()
    values = [schema["const"]] if "const" in schema else schema.get("enum", [])
    return frozenset(values) if all(isinstance(v, str) for v in values) else frozenset()


def _tags(schema: Schema) -> dict[str, list[str]]:
    """The required properties whose value is one of some strings: what tells a branch apart."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return {}
    tags: dict[str, list[str]] = {}
    for name in schema.get("required", ()):
        facts = schema.get("properties", {}).get(name)
        if isinstance(facts, dict):
            values = [facts["const"]] if "const" in facts else facts.get("enum", [None])
            if all(isinstance(value, str) for value in values):
                tags[name] = list(values)
    return tags
