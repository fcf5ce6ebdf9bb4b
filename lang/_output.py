"""What a generation yields: the constraint that shapes its text and the value read from it.

`type=` accepts whatever pydantic can describe. `str` is free text; a Literal or Enum of strings
generates the bare string; every other type generates JSON.
"""

from __future__ import annotations

import enum
import functools
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from furcate.errors import UsageError

from ._constraint import alternation, dtype_constraint, json_constraint, regex_constraint

if typing.TYPE_CHECKING:
    from furcate.protocol.constraint import Constraint

__all__ = ["TEXT", "Output", "choice_output", "output_of"]


@dataclass(frozen=True, slots=True)
class Output:
    """`parse` turns the text into the value, None leaves the text; `so_far` does what it can with
    the beginning of one. `whole`: a cut text has no value."""

    constraint: Constraint | None = None
    stops: tuple[str, ...] = ()
    parse: Callable[[str], object] | None = None
    whole: bool = False
    so_far: Callable[[str], object] | None = None


TEXT = Output()


def output_of(
    dtype: object = None,
    regex: str | None = None,
    json_schema: str | Mapping[str, object] | type | None = None,
    as_type: object = None,
) -> Output:
    """Raises UsageError where more than one shape is given, ConstraintError where it is none."""
    given = {"dtype": dtype, "regex": regex, "json_schema": json_schema, "type": as_type}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise UsageError(f"{names[0]} and {names[1]} both shape the output: keep one of them")
    if dtype is not None:
        constraint, stops = dtype_constraint(dtype)
        return Output(constraint, stops)
    if regex is not None:
        return Output(regex_constraint(regex))
    if json_schema is not None:
        if isinstance(json_schema, str | Mapping):
            return Output(json_constraint(json_schema))
        return Output(json_constraint(_schema(json_schema)))
    if as_type is not None:
        return _typed(as_type)
    return TEXT


def choice_output(as_type: object) -> Output:
    """Of a select: the chosen text, read as that type where one is given."""
    if as_type is None or as_type is str:
        return TEXT
    return Output(parse=_reader(as_type, json_text=False))


def _typed(as_type: object) -> Output:
    try:
        return _typed_once(as_type)
    except TypeError:  # not hashable, such as Annotated with a list in it
        return _build_typed(as_type)


@functools.lru_cache(maxsize=512)
def _typed_once(as_type: object) -> Output:
    return _build_typed(as_type)


def _build_typed(as_type: object) -> Output:
    if as_type is str:
        return TEXT
    texts = _bare_texts(as_type)
    if texts is not None:
        parse = _reader(as_type, json_text=False)
        return Output(alternation(texts), (), parse, True, _beginnings(as_type, json_text=False))
    constraint = json_constraint(_schema(as_type))
    parse = _reader(as_type, json_text=True)
    return Output(constraint, (), parse, True, _beginnings(as_type, json_text=True))


def _bare_texts(as_type: object) -> tuple[str, ...] | None:
    """The strings of a Literal or Enum that has nothing but strings."""
    members: tuple[object, ...] = ()
    if typing.get_origin(as_type) is typing.Literal:
        members = typing.get_args(as_type)
    elif isinstance(as_type, type) and issubclass(as_type, enum.Enum):
        members = tuple(member.value for member in as_type)
    texts = tuple(member for member in members if isinstance(member, str))
    return texts if texts and len(texts) == len(members) else None


def _schema(as_type: object) -> dict[str, object]:
    from ._schema import schema_of  # imports pydantic, which typed programs only need

    return schema_of(as_type)


def _beginnings(as_type: object, *, json_text: bool) -> Callable[[str], object]:
    def read(text: str) -> object:
        from ._partial import partial_json, partial_text  # as below

        return partial_json(as_type, text) if json_text else partial_text(as_type, text)

    return read


def _reader(as_type: object, *, json_text: bool) -> Callable[[str], object]:
    from ._schema import reader  # as above

    return reader(as_type, json_text=json_text)
