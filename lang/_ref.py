"""References: values that need not be there yet.

Appending a Ref records a Fill and waits for nothing. Its string methods record pure operations and
give another Ref. Asking it for something that only the value can answer forces it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.errors import UsageError
from furcate.protocol.graph import Let, LetOp, Literal_, Operand, ValueRef
from furcate.protocol.path import parse_path

from ._expr import Expr
from ._location import caller_location
from ._pattern import checked_pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ._program import Program
    from ._slot import Slot

__all__ = ["Leaf", "Ref", "foreign", "join", "let", "operand", "resolve"]


TEXT_METHODS = ("strip", "lstrip", "rstrip", "replace", "removeprefix", "removesuffix")


class Ref(Expr):
    """A value of a running program, by reference: `state.ref("x")`.

    `str()`, `int()`, `float()`, `bool()`, `len()`, `==`, `in`, iteration and formatting wait for
    the value. `strip`, `lower`, `replace`, ... and `[...]` do not: they give another Ref; so do the
    conditions that `s.switch` and `s.loop` take: `eq`, `lt`, `contains`, `matches`, ... and `&`,
    `|`, `~`.
    """

    __slots__ = ("_program", "_slot")

    def __init__(self, program: Program, slot: Slot) -> None:
        self._program = program
        self._slot = slot

    @property
    def program(self) -> Program:
        """The running program that the value belongs to."""
        return self._program

    @property
    def slot(self) -> Slot:
        """The place of the value. Raises UsageError outside the body that it belongs to."""
        self._program.check_visible(self._slot)
        return self._slot

    def get(self) -> object:
        """The value; waits for it. ProgramError where there is none."""
        return self._program.value(self._slot)

    async def aget(self) -> object:
        """The value, without blocking the event loop."""
        return await self._program.value_async(self._slot)

    # Forcing -------------------------------------------------------------------------------------

    def __str__(self) -> str:
        return str(self.get())

    def __format__(self, format_spec: str) -> str:
        return format(self.get(), format_spec)

    def __int__(self) -> int:
        return int(self.get())  # type: ignore[call-overload, no-any-return]

    def __float__(self) -> float:
        return float(self.get())  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        return bool(self.get())

    def __len__(self) -> int:
        return len(self.get())  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[object]:
        return iter(self.get())  # type: ignore[call-overload, no-any-return]

    def __contains__(self, item: object) -> bool:
        return item in self.get()  # type: ignore[operator]

    def __eq__(self, other: object) -> bool:
        return self.get() == (other.get() if isinstance(other, Ref) else other)

    def __hash__(self) -> int:
        return hash(self.get())

    def __repr__(self) -> str:
        return f"Ref({self._slot.label})"

    # Operations in the graph ---------------------------------------------------------------------

    def strip(self, chars: str | None = None) -> Ref:
        """As of a `str`."""
        return self._let("strip", *_given(chars))

    def lstrip(self, chars: str | None = None) -> Ref:
        """As of a `str`."""
        return self._let("lstrip", *_given(chars))

    def rstrip(self, chars: str | None = None) -> Ref:
        """As of a `str`."""
        return self._let("rstrip", *_given(chars))

    def lower(self) -> Ref:
        """As of a `str`."""
        return self._let("lower")

    def upper(self) -> Ref:
        """As of a `str`."""
        return self._let("upper")

    def replace(self, old: str, new: str) -> Ref:
        """As of a `str`, every occurrence."""
        return self._let("replace", old, new)

    def removeprefix(self, prefix: str) -> Ref:
        """As of a `str`."""
        return self._let("removeprefix", prefix)

    def removesuffix(self, suffix: str) -> Ref:
        """As of a `str`."""
        return self._let("removesuffix", suffix)

    def __getitem__(self, key: int | str) -> Ref:
        """The element of that index or key, of a list or of JSON text."""
        if not isinstance(key, str) and not (isinstance(key, int) and abs(key) < 2**31):
            raise UsageError(f"a Ref is indexed by a key or an index, got {key!r}")
        return self._let("item", key)

    # Conditions ----------------------------------------------------------------------------------

    def eq(self, other: Ref | Literal_) -> Ref:
        """Whether the two are equal; numbers compare as numbers, also where one is a text that
        spells one."""
        return self._compare("eq", other)

    def ne(self, other: Ref | Literal_) -> Ref:
        """The opposite of `eq`."""
        return self._compare("ne", other)

    def lt(self, other: Ref | Literal_) -> Ref:
        """Whether this is less: of numbers and texts that spell them, or of two texts."""
        return self._compare("lt", other)

    def le(self, other: Ref | Literal_) -> Ref:
        """Less or equal; see `lt`."""
        return self._compare("le", other)

    def gt(self, other: Ref | Literal_) -> Ref:
        """Greater; see `lt`."""
        return self._compare("gt", other)

    def ge(self, other: Ref | Literal_) -> Ref:
        """Greater or equal; see `lt`."""
        return self._compare("ge", other)

    def contains(self, part: Ref | Literal_) -> Ref:
        """Whether a text has the part in it, or a list the element."""
        return self._compare("contains", part)

    def is_in(self, elements: Ref | Iterable[Ref | Literal_]) -> Ref:
        """Whether it is one of these."""
        given = [elements] if isinstance(elements, Ref) else list(elements)
        return self._let("is_in", *(operand(self._program, element) for element in given))

    def matches(self, pattern: str) -> Ref:
        """Whether the regular expression is found somewhere in the text. It is one of RE2's, which
        has neither lookaround nor backreferences."""
        return self._let("matches", checked_pattern(pattern))

    def regex(self, pattern: str, group: int | str = 0) -> Ref:
        """What the first match is, or that group of it; None where nothing matches."""
        return self._let("regex", checked_pattern(pattern, group), group)

    def json(self, path: str) -> Ref:
        """The element of a JSON text at a path such as `$.items[0].name`."""
        parse_path(path)
        return self._let("json", path)

    def __and__(self, other: Ref | bool) -> Ref:
        return self._compare("and", other)

    def __or__(self, other: Ref | bool) -> Ref:
        return self._compare("or", other)

    def __rand__(self, other: bool) -> Ref:
        return self._compare("and", other)

    def __ror__(self, other: bool) -> Ref:
        return self._compare("or", other)

    def __invert__(self) -> Ref:
        return self._let("not")

    def _compare(self, op: LetOp, other: Ref | Literal_) -> Ref:
        return self._let(op, operand(self._program, other))

    def _let(self, op: LetOp, *args: Operand) -> Ref:
        if op in TEXT_METHODS and not all(isinstance(arg, str) for arg in args):
            wrong = next(arg for arg in args if not isinstance(arg, str))
            raise TypeError(f"{op}() of a Ref takes text, got {wrong!r}")
        return let(self._program, op, (ValueRef(self.slot.value_id), *args))


class Leaf(Ref):
    """A Ref in place of a value that the body only appends. Where that does not work it is the
    value."""

    __slots__ = ()

    def _let(self, op: LetOp, *args: Operand) -> Ref:
        if not all(isinstance(arg, str) for arg in args):
            return getattr(self.get(), op)(*args)  # type: ignore[no-any-return]  # as it is written
        return Leaf(self._program, super()._let(op, *args).slot)


def let(program: Program, op: LetOp, args: tuple[Operand, ...]) -> Ref:
    """Records a pure operation; the result is a new value of the program."""
    location = caller_location()
    slot = program.new_slot(op, location, None)
    program.record(Let(slot.value_id, op, args), op, location)
    return Ref(program, slot)


def foreign(ref: Ref, program: Program, remedy: str) -> UsageError:
    """Of a Ref that is used where it means nothing."""
    return UsageError(
        f"{ref!r} of {ref.program.name!r} belongs to another program than {program.name!r}, where "
        f"it is used: {remedy}"
    )


def operand(program: Program, value: object) -> Operand:
    """A Ref or plain data where an operation takes either."""
    if isinstance(value, Ref):
        if value.program is not program:
            raise foreign(value, program, "use its value, ref.get()")
        return ValueRef(value.slot.value_id)
    if value is None or isinstance(value, str | bool | float):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    raise UsageError(f"Refs, text, numbers, bools and None can be compared, got {value!r}")


def _given(chars: str | None) -> tuple[str, ...]:
    return () if chars is None else (chars,)


def join(separator: str, items: Ref | Iterable[Ref | str]) -> Ref | str:
    """The items' texts with the separator between them, like `str.join`, without waiting for the
    Refs among them; a Ref of a list counts as its elements. Plain strings alone give a plain
    string."""
    parts = [items] if isinstance(items, Ref) else list(items)
    for part in (separator, *parts):
        if not isinstance(part, Ref | str):
            raise TypeError(f"join() takes strings and Refs, got {part!r}")
    refs = [part for part in parts if isinstance(part, Ref)]
    if not refs:
        return separator.join(part for part in parts if isinstance(part, str))
    for ref in refs:
        if ref.program is not refs[0].program:
            raise UsageError(
                f"join() got Refs of different programs, {refs[0].program.name!r} and "
                f"{ref.program.name!r}: use ref.get() for the foreign one"
            )
    operands = [ValueRef(part.slot.value_id) if isinstance(part, Ref) else part for part in parts]
    return let(refs[0].program, "concat", (separator, *operands))


def resolve(value: object, program: Program) -> object:
    """`value` with every Ref in it, also inside lists, tuples and dicts, replaced by its value."""
    if isinstance(value, Ref):
        if value.program is not program:
            raise UsageError(
                f"the return value of {program.name!r} holds {value!r} of another program, "
                f"{value.program.name!r}: return ref.get()"
            )
        return value.get()
    if type(value) in (list, tuple):
        return type(value)(resolve(item, program) for item in value)  # type: ignore[call-arg, attr-defined]
    if type(value) is dict:
        return {key: resolve(item, program) for key, item in value.items()}
    return value
