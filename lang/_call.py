"""`state.call`: a function of the user's, called in this process when its arguments are there.

Only plain data travels: what the function gets are the values that its Refs stand for, what it
returns becomes a value of the program.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.errors import CallFailed, FurcateError, GenerationError, UsageError
from furcate.protocol.graph import Call, Operand, ValueRef

from ._location import caller_location
from ._numbers import is_number
from ._ref import Ref, foreign, let
from ._slot import Slot

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence

    from furcate.protocol.message import Data

    from ._branch import Branch

__all__ = ["name_of", "plain", "record_call", "short"]

_MAX_RESULT_CHARS = 8 * 2**20
_MAX_MESSAGE_CHARS = 2000


# What an argument is read with: the value that it refers to, one for each element of a list, or
# nothing where it is what it is.
Reader = Slot | tuple["Reader", ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class Tool:
    """`told` gets the errors whose messages travel."""

    function: Callable[..., object]
    told: MutableMapping[str, FurcateError]
    readers: tuple[Reader, ...]

    def call(self, args: Sequence[Data]) -> object:
        return self.function(*map(_read, self.readers, args))

    def ended(self, args: Sequence[Data], result: object) -> Data:
        return plain(result, f"{name_of(self.function)}() returned")

    def raised(self, args: Sequence[Data], error: BaseException) -> Data:
        if isinstance(error, GenerationError):  # an argument without a value
            raise error
        failure = CallFailed(short(f"{name_of(self.function)}() raised {error!r}"))
        failure.__cause__ = error
        self.told[str(failure)] = failure
        raise failure


def record_call(
    branch: Branch, function: Callable[..., object], args: Sequence[object], expect_s: float | None
) -> Ref:
    """Records the call; the Ref stands for what the function will return."""
    if not callable(function):
        raise UsageError(f"call() takes a function, got {function!r}")
    if expect_s is not None and not (is_number(expect_s) and 0 <= expect_s < math.inf):
        raise UsageError(f"expect_s must be a number of seconds from 0 on, got {expect_s!r}")
    program, location = branch.program, caller_location()
    operands = tuple(_operand(branch, arg) for arg in args)
    readers = tuple(map(_reader, args))
    label = f"call {name_of(function)!r}"
    slot = program.new_slot(label, location, branch.number)
    number = program.callables.add(Tool(function, program.callables.told, readers))
    seconds = None if expect_s is None else float(expect_s)
    program.record(Call(branch.number, slot.value_id, number, operands, seconds), label, location)
    program.push()
    return Ref(program, slot)


def _reader(arg: object) -> Reader:
    if isinstance(arg, list | tuple):
        return tuple(map(_reader, arg))
    return arg.slot if isinstance(arg, Ref) else None


def _read(reader: Reader, data: object) -> object:
    if isinstance(reader, tuple) and isinstance(data, list):
        return [_read(each, element) for each, element in zip(reader, data, strict=True)]
    return reader.read(data) if isinstance(reader, Slot) else data  # type: ignore[arg-type]


def _operand(branch: Branch, arg: object) -> Operand:
    if isinstance(arg, Ref):
        if arg.program is not branch.program:
            raise foreign(arg, branch.program, "pass its value, ref.get()")
        return ValueRef(arg.slot.value_id)
    if isinstance(arg, list | tuple):
        return ValueRef(
            let(branch.program, "list", tuple(_operand(branch, e) for e in arg)).slot.value_id
        )
    data = plain(arg, "call() got the argument", "pass a Ref or plain data; bind other objects")
    assert not isinstance(data, list)
    return data


def plain(value: object, what: str, remedy: str = "return text, such as json.dumps(...)") -> Data:
    """The value as it travels. Raises UsageError that names its type for any other."""
    if isinstance(value, list | tuple):
        elements = [
            [_element(e, what, remedy) for e in element]
            if isinstance(element, list | tuple)
            else _element(element, what, remedy)
            for element in value
        ]
        return elements
    return _element(value, what, remedy)


def _element(value: object, what: str, remedy: str) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(str.__str__(value), what)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise UsageError(f"{what} {short(repr(value), 80)}, which has over 64 bits: use str()")
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise UsageError(
        f"{what} {short(repr(value), 200)} of type {type(value).__name__}, which cannot travel: "
        f"{remedy} (a str, int, float, bool, None or a list of them can)"
    )


def _text(text: str, what: str) -> str:
    if len(text) > _MAX_RESULT_CHARS:
        raise UsageError(f"{what} a text of {len(text)} characters; {_MAX_RESULT_CHARS} can travel")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{what} {short(repr(text), 200)}, which holds half a surrogate pair at {error.start}: "
            f"decode it with errors='replace' where it comes from"
        ) from error
    return text


def name_of(function: object) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def short(text: str, limit: int = _MAX_MESSAGE_CHARS) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
