"""One field of a configuration is one flag: its name, its help line, its bounds and its variable.

Knows how to read a value from text or from a caller and how to refuse it by name. Does not know
which options there are (config.py) nor any command line library.
"""

from __future__ import annotations

import types
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import (
    TYPE_CHECKING,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from furcate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PREFIX", "Flag", "Scalar", "flags_of", "nearest", "option"]

PREFIX = "FURCATE_"

Scalar = str | int | float | bool | None
T = TypeVar("T")

_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off"})
_UNITS = {"kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


def option(
    default: T,
    help: str,
    *,
    flag: str | None = None,
    least: float | None = None,
    unit: Literal["bytes"] | None = None,
) -> T:
    """A dataclass field that is a flag; `flag` names it where the field's own name would not do."""
    metadata = {"help": help, "flag": flag, "least": least, "unit": unit}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Flag:
    """The facts of one option. `path` is (section, field) in the configuration."""

    path: tuple[str, str]
    name: str
    kind: type[str] | type[int] | type[float] | type[bool]
    help: str
    default: Scalar
    choices: tuple[str, ...] = ()
    optional: bool = False
    least: float | None = None
    unit: str | None = None

    @property
    def option(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def shown_default(self) -> str:
        """The default as a user would write it."""
        if self.kind is bool:
            return "on" if self.default else "off"
        if self.unit is not None and isinstance(self.default, int):
            return _with_unit(self.default)
        return str(self.default)

    def read(self, text: str, source: str) -> Scalar:
        """The value that `text` spells; `source` is what the user wrote it in."""
        if self.kind is bool:
            return self._read_bool(text, source)
        if self.kind is str:
            return self.check(text, source)
        try:
            if self.kind is int:
                return self.check(_read_int(text, self.unit), source)
            return self.check(float(text), source)
        except ValueError as error:
            if isinstance(error, UsageError):
                raise
            wanted = "a number of bytes such as 512MiB" if self.unit else f"of type {self._kind}"
            raise UsageError(f"{source} must be {wanted}, got {text!r}") from None

    def check(self, value: object, source: str | None = None) -> Scalar:
        """`value` if it may stand here; a UsageError that names value, flag and remedy if not."""
        source = source or self.option
        if value is None and self.optional:
            return None
        if self.unit and isinstance(value, str):
            return self.read(value, source)
        if self.kind is float and type(value) is int:
            value = float(value)
        if type(value) is not self.kind:
            raise UsageError(f"{source} must be of type {self._kind}, got {value!r}")
        if self.choices and value not in self.choices:
            raise UsageError(f"{source} must be one of {', '.join(self.choices)}; got {value!r}")
        if self.least is not None and not cast("float", value) >= self.least:
            raise UsageError(f"{source} must be at least {self.least:g}, got {value!r}")
        return cast("Scalar", value)

    def _read_bool(self, text: str, source: str) -> bool:
        word = text.strip().lower()
        if word in _YES or word in _NO:
            return word in _YES
        raise UsageError(f"{source} must be true or false, got {text!r}")

    @property
    def _kind(self) -> str:
        return self.kind.__name__


def flags_of(config: type) -> tuple[Flag, ...]:
    """The flags of a dataclass of dataclasses, in the order of the fields."""
    sections = get_type_hints(config)
    return tuple(
        _flag(section.name, spec.name, get_type_hints(kind)[spec.name], spec.default, spec.metadata)
        for section in fields(config)
        for kind in [sections[section.name]]
        for spec in fields(kind)
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: what was probably meant."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}."


def _flag(
    section: str,
    name: str,
    annotation: object,
    default: object,
    metadata: types.MappingProxyType[str, object],
) -> Flag:
    optional = False
    if get_origin(annotation) in (types.UnionType, Union):
        (annotation,) = (part for part in get_args(annotation) if part is not type(None))
        optional = True
    choices: tuple[str, ...] = ()
    if get_origin(annotation) is Literal:
        choices, annotation = get_args(annotation), str
    return Flag(
        path=(section, name),
        name=cast("str | None", metadata["flag"]) or name,
        kind=cast("type[str]", annotation),
        help=cast("str", metadata["help"]),
        default=cast("Scalar", default),
        choices=choices,
        optional=optional,
        least=cast("float | None", metadata["least"]),
        unit=cast("str | None", metadata["unit"]),
    )


def _with_unit(num_bytes: int) -> str:
    for unit in ("GiB", "MiB", "KiB"):
        factor = _UNITS[unit.lower()]
        if num_bytes >= factor and num_bytes % factor == 0:
            return f"{num_bytes // factor}{unit}"
    return str(num_bytes)


def _read_int(text: str, unit: str | None) -> int:
    word = text.strip().lower().replace("_", "")
    if unit == "bytes":
        for suffix, factor in _UNITS.items():
            if word.endswith(suffix):
                return int(float(word[: -len(suffix)]) * factor)
    return int(word)
