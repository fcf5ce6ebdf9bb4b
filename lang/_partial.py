"""A value that is still being generated, as far as it has come.

The text is a beginning of JSON. What stands in it is given the form of the type, from the outside
in: objects get the fields that are there, lists the elements that are there. A part that is no
value of its type yet is None, or left out of a list; text is what there is of it. Imports
pydantic, as the module of types does.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import typing
from types import UnionType
from typing import Any, Literal, NewType, TypeGuard, Union, cast, get_args, get_origin

import pydantic
import pydantic_core
import typing_extensions

from ._schema import adapter_of

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["partial_json", "partial_text"]

_LISTS = (list, collections.abc.Sequence, collections.abc.Iterable, collections.deque)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def partial_text(as_type: object, text: str) -> object:
    """Of bare texts, such as those of an Enum: the value once it is one."""
    try:
        return adapter_of(as_type).validate_python(text)
    except pydantic.ValidationError:
        return None


def partial_json(as_type: object, text: str) -> object:
    """Raises nothing, whatever the text is."""
    try:
        return adapter_of(as_type).validate_json(text)
    except pydantic.ValidationError:
        pass
    try:
        data = pydantic_core.from_json(text, allow_partial="trailing-strings")
    except ValueError:
        return None
    return _formed(as_type, data)


def _formed(as_type: object, data: object) -> object:
    as_type = _plain(as_type)
    origin, args = get_origin(as_type), get_args(as_type)
    if _is_model(as_type) and issubclass(as_type, pydantic.RootModel):
        root = as_type.model_fields["root"].annotation
        return as_type.model_construct(_formed(root, data))
    if origin in (Union, UnionType):
        return _formed_as_one_of(args, data)
    if isinstance(data, dict):
        return _formed_object(as_type, origin, args, data)
    if isinstance(data, list):
        return _formed_array(as_type, origin or as_type, args, data)
    return _leaf(as_type, data)


def _plain(as_type: object) -> object:
    """Without what only says more of the same type."""
    while True:
        if get_origin(as_type) in (typing.Annotated, typing_extensions.Required):
            as_type = get_args(as_type)[0]
        elif get_origin(as_type) is typing_extensions.NotRequired:
            as_type = get_args(as_type)[0]
        elif isinstance(as_type, NewType):
            as_type = as_type.__supertype__
        elif isinstance(as_type, typing_extensions.TypeAliasType):
            as_type = as_type.__value__
        else:
            return as_type


def _leaf(as_type: object, data: object) -> object:
    if as_type in (Any, object) or (as_type is str and isinstance(data, str)):
        return data
    try:
        return adapter_of(as_type).validate_json(pydantic_core.to_json(data))
    except (pydantic.ValidationError, pydantic.errors.PydanticUserError):
        return None


# Objects -----------------------------------------------------------------------------------------


def _formed_object(
    as_type: object, origin: object, args: tuple[object, ...], data: dict[str, object]
) -> object:
    if _is_model(as_type):
        return _model(as_type, data)
    if dataclasses.is_dataclass(as_type):
        return _dataclass(as_type, data)
    if typing_extensions.is_typeddict(as_type):
        hints = _hints(as_type)
        return {key: _part(hints[key], data, key) for key in data if key in hints}
    if origin in _MAPPINGS and len(args) == 2:
        keys = {key: _leaf(_plain(args[0]), key) for key in data}
        return {keys[key]: _part(args[1], data, key) for key in data}
    return data


def _part(as_type: object, data: dict[str, object], key: str) -> object:
    """Only what stands last may go on."""
    is_last = key == next(reversed(data))
    return _formed(as_type, data[key]) if is_last else _whole(as_type, data[key])


def _whole(as_type: object, data: object) -> object:
    """What is complete, with its defaults; as far as it goes where it does not fit its type."""
    value = _leaf(as_type, data)
    return _formed(as_type, data) if value is None else value


def _hints(as_type: object) -> dict[str, object]:
    return typing.get_type_hints(cast("type[object]", as_type))


def _is_model(as_type: object) -> TypeGuard[type[pydantic.BaseModel]]:
    return inspect.isclass(as_type) and issubclass(as_type, pydantic.BaseModel)


def _model(model: type[pydantic.BaseModel], data: dict[str, object]) -> object:
    """Every field that is not there is None; `model_fields_set` names those that are."""
    there = {
        name: _part(field.annotation, data, key)
        for name, field in model.model_fields.items()
        for key in _keys(name, field)
        if key in data
    }
    missing = {name: None for name in model.model_fields if name not in there}
    return model.model_construct(set(there), **there, **missing)


def _keys(name: str, field: pydantic.fields.FieldInfo) -> Iterable[str]:
    alias = field.validation_alias
    return (alias if isinstance(alias, str) else field.alias or name,)


def _dataclass(cls: object, data: dict[str, object]) -> object:
    hints = _hints(cls)
    made = object.__new__(cast("type[object]", cls))
    for field in dataclasses.fields(cast("Any", cls)):
        there = field.name in data
        value = _part(hints[field.name], data, field.name) if there else None
        object.__setattr__(made, field.name, value)
    return made


# Arrays ------------------------------------------------------------------------------------------


def _formed_array(
    as_type: object, origin: object, args: tuple[object, ...], data: list[object]
) -> object:
    if inspect.isclass(as_type) and issubclass(as_type, tuple) and hasattr(as_type, "_fields"):
        hints, names = _hints(as_type), cast("tuple[str, ...]", getattr(as_type, "_fields", ()))
        there = [_formed(hints[name], value) for name, value in zip(names, data, strict=False)]
        padded = [*there, *[None] * (len(names) - len(there))]
        return cast("Callable[..., object]", as_type)(*padded)
    if origin is tuple and args and args[-1] is not Ellipsis:
        return tuple(_formed(arg, value) for arg, value in zip(args, data, strict=False))
    elements = _elements(args[0] if args else Any, data)
    if origin is tuple:
        return tuple(elements)
    if origin in (set, frozenset, collections.abc.Set):
        return (frozenset if origin is frozenset else set)(_hashable(elements))
    return elements


def _elements(as_type: object, data: list[object]) -> list[object]:
    values = [_whole(as_type, value) for value in data[:-1]]
    values += [_formed(as_type, value) for value in data[-1:]]
    if values and values[-1] is None and data[-1] is not None:
        values.pop()
    return values


def _hashable(elements: Iterable[object]) -> list[Any]:
    return [element for element in elements if isinstance(element, collections.abc.Hashable)]


# One of several ----------------------------------------------------------------------------------


def _formed_as_one_of(arms: tuple[object, ...], data: object) -> object:
    """As the first that the data may be a beginning of."""
    for arm in arms:
        if _may_become(_plain(arm), data):
            return _formed(arm, data)
    return None


def _may_become(as_type: object, data: object) -> bool:
    origin = get_origin(as_type) or as_type
    if isinstance(data, dict):
        fields = _fields_of(as_type)
        if fields is not None:
            return all(key in fields and _may_say(fields[key], data[key]) for key in data)
        return origin in _MAPPINGS or as_type is Any
    if isinstance(data, list):
        return not _is_model(as_type) and (
            origin in (*_LISTS, tuple, set, frozenset) or as_type is Any
        )
    return _leaf(as_type, data) is not None or data is None


def _fields_of(as_type: object) -> Mapping[str, object] | None:
    if _is_model(as_type):
        fields = as_type.model_fields
        return {key: f.annotation for name, f in fields.items() for key in _keys(name, f)}
    if dataclasses.is_dataclass(as_type) or typing_extensions.is_typeddict(as_type):
        return _hints(as_type)
    return None


def _may_say(as_type: object, data: object) -> bool:
    """Whether a field that tells types apart leaves this one possible."""
    as_type = _plain(as_type)
    if get_origin(as_type) is not Literal:
        return True
    said = get_args(as_type)
    return data in said or (
        isinstance(data, str) and any(isinstance(s, str) and s.startswith(data) for s in said)
    )
