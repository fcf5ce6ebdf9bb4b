"""Which engine enforces every keyword of a normal-form schema.

The tables say what was measured, not what the engines claim: xgrammar accepts several keywords and
then lets anything through (lengths admit raw control characters, a pattern beside a length is
ignored, bounds on numbers forbid exponents), so it gets what it keeps. What neither keeps is an
error that names the keyword.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from furcate.errors import ConstraintError

from .schema import Schema, Site, pointer_to, walk
from .schema_normal import KEYWORDS

if TYPE_CHECKING:
    from furcate.protocol.constraint import Engine

__all__ = ["choose_engine"]

# Larger integers pass through floating point in llguidance, and as bounds in xgrammar; xgrammar
# writes constants of 64 bits exactly.
_MAX_EXACT_INTEGER = 2**53
_MAX_XGRAMMAR_CONSTANT = 2**63 - 1

_XGRAMMAR = frozenset(
    {
        "$defs", "$ref", "additionalProperties", "anyOf", "definitions", "enum", "items",
        "maxItems", "maximum", "minItems", "minimum", "properties", "required", "type",
    }
)  # fmt: skip
_LLGUIDANCE = _XGRAMMAR | {
    "allOf", "exclusiveMaximum", "exclusiveMinimum", "maxLength", "maxProperties", "minLength",
    "minProperties", "multipleOf", "pattern", "patternProperties", "prefixItems",
}  # fmt: skip


def choose_engine(root: Schema, wanted: Engine) -> Literal["xgrammar", "llguidance"]:
    """The engine for a schema in normal form; raises ConstraintError where there is none."""
    sites = list(walk(root))
    complaints = {
        "xgrammar": _first(_xgrammar_complaint(site) for site in sites),
        "llguidance": _first(_llguidance_complaint(site) for site in sites),
    }
    for engine in ("xgrammar", "llguidance"):
        if wanted in ("auto", engine) and complaints[engine] is None:
            return "xgrammar" if engine == "xgrammar" else "llguidance"
    raise _refusal("xgrammar" if wanted == "xgrammar" else "llguidance", wanted, complaints)


def _refusal(
    engine: str, wanted: Engine, complaints: dict[str, tuple[str, str] | None]
) -> ConstraintError:
    keyword, pointer = complaints[engine] or ("", "")
    if wanted == "auto":
        return ConstraintError(
            f"{keyword} at {pointer!r} cannot be enforced; express it otherwise or leave it out",
            pointer,
        )
    return ConstraintError(
        f"engine {wanted!r} cannot enforce {keyword} at {pointer!r}; use engine='auto'", pointer
    )


def _first(complaints: Any) -> tuple[str, str] | None:
    return next((complaint for complaint in complaints if complaint is not None), None)


def _at(site: Site, keyword: str, what: str | None = None) -> tuple[str, str]:
    return what or f"keyword {keyword!r}", pointer_to((*site.path, keyword))


def _llguidance_complaint(site: Site) -> tuple[str, str] | None:
    schema = site.schema
    if isinstance(schema, bool):
        return None
    if "oneOf" in schema:  # it judges the normal form, in which branches overlap less
        return _at(site, "oneOf", "'oneOf' with branches that may overlap (write 'anyOf')")
    for keyword in schema:
        if keyword in KEYWORDS and keyword not in _LLGUIDANCE:
            return _at(site, keyword)
    for value in schema.get("enum", ()):
        if (number := _largest_integer(value)) > _MAX_EXACT_INTEGER:
            return _at(site, "enum", f"the integer {str(number)[:80]} of 'enum' (above 2**53)")
    if isinstance(schema.get("items"), list):
        return _at(site, "items", "a list of 'items' (write 'prefixItems')")
    # A repeated key counts twice for this engine, once for whoever reads the output.
    if schema.get("minProperties", 0) > 1 and (
        schema.get("additionalProperties") is not False or "patternProperties" in schema
    ):
        return _at(site, "minProperties", "'minProperties' above 1 with keys of any name")
    return None


def _largest_integer(value: object) -> int:
    """The greatest magnitude of the integers in a JSON value; JSON depth is bounded."""
    if isinstance(value, dict):
        return max(map(_largest_integer, value.values()), default=0)
    if isinstance(value, list):
        return max(map(_largest_integer, value), default=0)
    return abs(value) if isinstance(value, int) else 0


def _xgrammar_complaint(site: Site) -> tuple[str, str] | None:
    schema = site.schema
    if isinstance(schema, bool):
        is_closing = site.path[-1:] == ("additionalProperties",)
        return None if schema or is_closing else ("the schema 'false'", pointer_to(site.path))
    for keyword in schema:
        if keyword in KEYWORDS and keyword not in _XGRAMMAR:
            return _at(site, keyword)
    for alone in ("$ref", "anyOf", "enum"):
        if alone in schema and schema.keys() - {alone, "$defs", "definitions"}:
            return _at(site, alone, f"keywords beside {alone!r}")
    for value in schema.get("enum", ()):
        if isinstance(value, dict | list | float) or (
            isinstance(value, int) and abs(value) > _MAX_XGRAMMAR_CONSTANT
        ):
            return _at(site, "enum", f"the value {str(value)[:80]} of 'enum' in every spelling")
    return _xgrammar_object(site, schema) or _xgrammar_bounds(site, schema)


def _xgrammar_object(site: Site, schema: dict[str, Any]) -> tuple[str, str] | None:
    is_listed = bool(schema.get("properties"))
    if is_listed and schema.get("additionalProperties", True) is not False:
        return _at(site, "additionalProperties", "additional keys beside properties")
    if not is_listed and schema.get("required"):
        return _at(site, "required")
    if any(child is False for child in schema.get("properties", {}).values()):
        return _at(site, "properties", "a forbidden property")
    if isinstance(schema.get("items"), bool | list) and schema["items"] is not True:
        return _at(site, "items")
    return None


def _xgrammar_bounds(site: Site, schema: dict[str, Any]) -> tuple[str, str] | None:
    for keyword in ("minimum", "maximum"):
        if keyword in schema and not (
            schema.get("type") == "integer"
            and isinstance(schema[keyword], int)
            and abs(schema[keyword]) <= _MAX_EXACT_INTEGER
        ):
            return _at(site, keyword, f"{keyword!r} on other than integers")
    types = schema.get("type")
    if isinstance(types, list) and schema.keys() - {"type", "$defs", "definitions"}:
        return _at(site, "type", "keywords beside several types")
    return None
