"""Types as pydantic describes them, in the JSON schema that a generation can hold.

Imports pydantic: only programs with `type=` need this module. Where pydantic's own schema says less
than its validation asks for, or more than any order of tokens can show, this one says what to
generate; the value is validated in any case.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, cast

import pydantic
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from furcate.errors import ConstraintError, ValidationFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic_core import core_schema

__all__ = ["adapter_of", "reader", "schema_of"]

_INTEGER = r"^-?(0|[1-9][0-9]{0,18})$"
_MAX_DIGITS = 30


class _Generated(GenerateJsonSchema):
    def set_schema(self, schema: core_schema.SetSchema) -> JsonSchemaValue:
        """A set is what its elements come down to, however often each is said."""
        return _without(super().set_schema(schema), "uniqueItems")

    def frozenset_schema(self, schema: core_schema.FrozenSetSchema) -> JsonSchemaValue:
        return _without(super().frozenset_schema(schema), "uniqueItems")

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        """A number; with limits on the digits, a text that keeps them."""
        places, digits = schema.get("decimal_places"), schema.get("max_digits")
        if places is None and digits is None:
            number: JsonSchemaValue = {"type": "number"}
            self.update_with_validations(number, schema, self.ValidationsMapping.numeric)
            return number
        sign = "" if schema.get("ge", schema.get("gt", -1)) >= 0 else "-?"
        return {"type": "string", "pattern": f"^{sign}({_digits(digits, places)})$"}

    def complex_schema(self, schema: core_schema.ComplexSchema) -> JsonSchemaValue:
        number = r"[0-9]{1,15}(\.[0-9]{1,15})?"
        return {"type": "string", "pattern": rf"^-?{number}[+-]{number}j$"}

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """The keys of JSON are texts: those of a mapping from integers must spell one."""
        found = super().dict_schema(schema)
        if schema.get("keys_schema", {}).get("type") == "int":
            found["propertyNames"] = {"type": "string", "pattern": _INTEGER}
        return found


def _without(schema: JsonSchemaValue, keyword: str) -> JsonSchemaValue:
    return {key: value for key, value in schema.items() if key != keyword}


def _digits(digits: int | None, places: int | None) -> str:
    """Decimals with so many digits at most, so many of them behind the point."""

    def whole(count: int) -> str:
        return rf"(0|[1-9][0-9]{{0,{max(count, 1) - 1}}})"

    if digits is None or places is not None:
        places = places or 0
        before = whole((_MAX_DIGITS if digits is None else digits) - places)
        return before + rf"(\.[0-9]{{1,{places}}})?" if places else before
    fractions = (whole(digits - k) + rf"\.[0-9]{{1,{k}}}" for k in range(1, digits))
    return "|".join([whole(digits), *fractions])


def schema_of(as_type: object) -> dict[str, object]:
    """Raises ConstraintError in one line where the type has none."""
    if inspect.isroutine(as_type):  # of which pydantic describes the arguments
        raise ConstraintError(f"type= takes a type, got the function {as_type!r}")
    try:
        return adapter_of(as_type).json_schema(schema_generator=_Generated)
    except pydantic.errors.PydanticUserError as error:
        raise ConstraintError(
            f"type {as_type!r} has no JSON schema: {_first_line(error)} (a pydantic model, a "
            f"dataclass, a TypedDict or a plain type has one)"
        ) from error


def reader(as_type: object, *, json_text: bool) -> Callable[[str], object]:
    """What turns a text into a value of the type; raises ValidationFailed."""
    try:
        adapter = adapter_of(as_type)
    except pydantic.errors.PydanticUserError as error:
        raise ConstraintError(
            f"type {as_type!r} cannot be validated: {_first_line(error)}"
        ) from error

    def read(text: str) -> object:
        try:
            return adapter.validate_json(text) if json_text else adapter.validate_python(text)
        except pydantic.ValidationError as error:
            raise ValidationFailed(
                f"the output {text[:200]!r} does not fit {as_type!r}: {_misfits(error)}",
                text,
                error=error,
            ) from error

    return read


def adapter_of(as_type: object) -> pydantic.TypeAdapter[object]:
    try:
        return _adapter_once(as_type)
    except TypeError:  # not hashable, such as Annotated with a list in it
        return _build_adapter(as_type)


@functools.lru_cache(maxsize=1024)
def _adapter_once(as_type: object) -> pydantic.TypeAdapter[object]:
    return _build_adapter(as_type)


def _build_adapter(as_type: object) -> pydantic.TypeAdapter[object]:
    return pydantic.TypeAdapter(cast("type[object]", as_type))


def _first_line(error: pydantic.errors.PydanticUserError) -> str:
    """The rest is for authors of types."""
    return error.message.strip().partition("\n")[0]


def _misfits(error: pydantic.ValidationError) -> str:
    """In one line: which part, and what is wrong with it."""
    told = []
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(step) for step in detail["loc"])
        told.append(f"{place}: {detail['msg']}" if place else detail["msg"])
    more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
    return "; ".join(told[:3]) + more
