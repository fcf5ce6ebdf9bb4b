"""Reading a transformers config.json: typed settings, with errors that name the setting.

Knows no setting's meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from furcate.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["HFConfig", "as_number"]


class HFConfig:
    """The settings of a model, or a table within them. Null is the same as absent."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def has(self, key: str) -> bool:
        return self._values.get(key) is not None

    def integer(self, key: str, default: int | None = None) -> int:
        value = self._values.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int:
            raise ModelFileError(f"{key!r} must be an integer, got {value!r}")
        return value

    def optional_integer(self, key: str) -> int | None:
        return self.integer(key) if self.has(key) else None

    def number(self, key: str, default: float | None = None) -> float:
        value = self._values.get(key)
        return default if value is None and default is not None else as_number(key, value)

    def optional_number(self, key: str) -> float | None:
        return self.number(key) if self.has(key) else None

    def flag(self, key: str, default: bool = False) -> bool:
        value = self._values.get(key)
        if value is None:
            return default
        if type(value) is not bool:
            raise ModelFileError(f"{key!r} must be true or false, got {value!r}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self._values.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise ModelFileError(f"{key!r} must be a text, got {value!r}")
        return value

    def sequence(self, key: str, length: int | None = None) -> Sequence[object]:
        """A list, or the first `length` entries of one that has as many at the least."""
        value = self._values.get(key)
        if not isinstance(value, list | tuple) or len(value) < (length or 0):
            size = "" if length is None else f" of {length}"
            raise ModelFileError(f"{key!r} must be a list{size}, got {str(value)[:200]}")
        return cast("Sequence[object]", value[:length])

    def table(self, key: str) -> HFConfig:
        """The table of that name; an empty one where there is none."""
        value = self._values.get(key)
        if value is not None and not isinstance(value, dict):
            raise ModelFileError(f"{key!r} must be a table, got {value!r}")
        return HFConfig(cast("Mapping[str, object]", value or {}))

    def over(self, defaults: Mapping[str, object]) -> HFConfig:
        """These settings, with others where there are none."""
        return HFConfig({**defaults, **self._values})

    def with_table(self, key: str, changes: Mapping[str, object]) -> HFConfig:
        """These settings with some of a table's replaced."""
        return HFConfig({**self._values, key: {**self.table(key)._values, **changes}})

    def refuse(self, key: str) -> None:
        """ModelFileError where a setting is on that no code here reads."""
        if self._values.get(key):
            raise ModelFileError(f"{key} is {self._values[key]!r}, which is not supported")


def as_number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelFileError(f"{name!r} must be a number, got {value!r}")
    return float(value)
