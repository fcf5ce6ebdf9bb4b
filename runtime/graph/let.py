"""The pure operations of Let: what each does to values that are there.

`charge` is told the size of a text before it is made, and raises where that is too much. Operations
that need not wait for all their operands are not here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from furcate.errors import UsageError

from .cell import Ready
from .compare import element, equal, is_less, number_of, truth

if TYPE_CHECKING:
    from furcate.protocol.graph import LetOp
    from furcate.protocol.message import Data, Element

__all__ = ["literal", "run_let"]

Charge = Callable[[int], None]
Operation = Callable[[Sequence[Ready], Charge], Ready]

# A case mapping may turn one character into up to three.
MAX_CASE_GROWTH = 3
MANY = 2**31


class Op(NamedTuple):
    """With the least and the greatest number of operands."""

    run: Operation
    least: int
    most: int


def literal(value: Data) -> Ready:
    """A literal operand as a value; its text is how Python prints it."""
    if isinstance(value, list):
        return Ready(value, None)
    return Ready(value, value if isinstance(value, str) else str(value))


def run_let(op: LetOp, args: Sequence[Ready], charge: Charge) -> Ready:
    known = OPS.get(op)
    if known is None:
        raise UsageError(f"let {op!r} is not known to this runtime")
    if not known.least <= len(args) <= known.most:
        most = "or more" if known.most == MANY else f"to {known.most}"
        raise UsageError(f"let {op!r} takes {known.least} {most} operands, got {len(args)}")
    try:
        return known.run(args, charge)
    except UsageError as error:
        raise type(error)(f"let {op!r}: {error}") from error


def _text(value: Ready) -> str:
    if value.text is None:
        shown = "nothing" if value.plain is None else "a list, take one element of it with item"
        raise UsageError(f"a text is needed, got {shown}")
    return value.text


# Texts -------------------------------------------------------------------------------------------


def _concat(args: Sequence[Ready], charge: Charge) -> Ready:
    """A list among the values counts as its elements."""
    separator = _text(args[0])
    parts = [_text(part) for arg in args[1:] for part in _parts(arg)]
    charge(sum(map(len, parts)) + len(separator) * len(parts))
    return literal(separator.join(parts))


def _parts(value: Ready) -> Sequence[Ready]:
    plain = value.plain
    return [element(each) for each in plain] if isinstance(plain, list) else [value]


def _replace(args: Sequence[Ready], charge: Charge) -> Ready:
    text, old, new = map(_text, args)
    charge(len(text) + text.count(old) * len(new))
    return literal(text.replace(old, new))


def _method(name: str) -> Operation:
    """A method of str that makes nothing longer but by a change of case."""

    def run(args: Sequence[Ready], charge: Charge) -> Ready:
        text, *rest = map(_text, args)
        charge(len(text) * MAX_CASE_GROWTH)
        return literal(getattr(text, name)(*rest))

    return run


def _regex(args: Sequence[Ready], charge: Charge) -> Ready:
    from .search import find  # the engine is loaded by those who search

    found = find(_text(args[0]), args[1].plain, args[2].plain)
    charge(len(found or ""))
    return Ready(None, None) if found is None else literal(found)


def _matches(args: Sequence[Ready], charge: Charge) -> Ready:
    from .search import matches  # as above

    return literal(matches(_text(args[0]), args[1].plain))


# Lists and JSON ----------------------------------------------------------------------------------


def _len(args: Sequence[Ready], charge: Charge) -> Ready:
    plain = args[0].plain
    return literal(len(plain) if isinstance(plain, list) else len(_text(args[0])))


def _list(args: Sequence[Ready], charge: Charge) -> Ready:
    elements: list[Element | list[Element]] = []
    for arg in args:
        plain = arg.plain
        if isinstance(plain, list) and any(isinstance(each, list) for each in plain):
            raise UsageError("elements and lists of them are needed, got a list of lists")
        charge(len(arg.text or "") + 8)
        elements.append(plain)  # type: ignore[arg-type]  # a list in it holds elements alone
    return Ready(elements, None)


def _item(args: Sequence[Ready], charge: Charge) -> Ready:
    """An element of a list, or of the JSON array or object that a text spells."""
    key, container = args[1].plain, _container(args[0])
    if isinstance(key, bool) or not isinstance(key, (int, str)):
        raise UsageError(f"an index or a key is needed, got {key!r}")
    if (
        isinstance(container, list)
        and isinstance(key, int)
        and -len(container) <= key < len(container)
    ):
        return element(container[key])
    if isinstance(container, dict) and isinstance(key, str) and key in container:
        return element(container[key])
    raise UsageError(f"there is no {key!r} in {container!r:.80}")


def _container(value: Ready) -> object:
    plain = value.plain
    if not isinstance(plain, str):
        return plain
    try:
        return msgspec.json.decode(plain)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(f"a list or JSON text is needed, got {plain!r:.80}: {error}") from error


def _json(args: Sequence[Ready], charge: Charge) -> Ready:
    from .search import found_at  # as above

    found = found_at(args[0], args[1].plain)
    charge(len(found.text or ""))
    return found


# Conditions --------------------------------------------------------------------------------------


def _comparison(holds: Callable[[Data, Data], bool]) -> Operation:
    def run(args: Sequence[Ready], charge: Charge) -> Ready:
        return literal(holds(args[0].plain, args[1].plain))

    return run


def _contains(args: Sequence[Ready], charge: Charge) -> Ready:
    whole = args[0].plain
    if isinstance(whole, list):
        return literal(any(equal(each, args[1].plain) for each in whole))
    return literal(_text(args[1]) in _text(args[0]))


def _is_in(args: Sequence[Ready], charge: Charge) -> Ready:
    """A list among the elements counts as its own."""
    plain = args[0].plain
    return literal(any(equal(plain, part.plain) for arg in args[1:] for part in _parts(arg)))


def _and(args: Sequence[Ready], charge: Charge) -> Ready:
    return literal(all(truth(arg.plain) for arg in args))


def _or(args: Sequence[Ready], charge: Charge) -> Ready:
    return literal(any(truth(arg.plain) for arg in args))


def _not(args: Sequence[Ready], charge: Charge) -> Ready:
    return literal(not truth(args[0].plain))


# Choosing ----------------------------------------------------------------------------------------


def _argmax(args: Sequence[Ready], charge: Charge) -> Ready:
    best = 0
    for index, arg in enumerate(args):
        if number_of(arg.plain) is None:
            raise UsageError(f"numbers are needed, got {arg.plain!r:.80} as operand {index}")
        if is_less(args[best].plain, arg.plain):
            best = index
    return literal(best)


def _vote(args: Sequence[Ready], charge: Charge) -> Ready:
    """The operand itself, with where it comes from. `counts` has the first of each kind."""
    counts: list[tuple[Ready, int]] = []
    places: dict[tuple[type, str], int] = {}
    for arg in args:
        # Equal operands nearly always look alike; the others are compared with each kind.
        look = (type(arg.plain), repr(arg.plain))
        place = places.get(look)
        if place is None:
            kinds = (i for i, (kind, _) in enumerate(counts) if equal(kind.plain, arg.plain))
            place = next(kinds, len(counts))
            places[look] = place
        if place == len(counts):
            counts.append((arg, 0))
        counts[place] = (counts[place][0], counts[place][1] + 1)
    return max(counts, key=lambda counted: counted[1])[0]


OPS: dict[str, Op] = {
    "concat": Op(_concat, 1, MANY),
    "replace": Op(_replace, 3, 3),
    **{name: Op(_method(name), 1, 2) for name in ("strip", "lstrip", "rstrip")},
    **{name: Op(_method(name), 1, 1) for name in ("lower", "upper")},
    **{name: Op(_method(name), 2, 2) for name in ("removeprefix", "removesuffix")},
    "regex": Op(_regex, 3, 3),
    "matches": Op(_matches, 2, 2),
    "len": Op(_len, 1, 1),
    "list": Op(_list, 0, MANY),
    "item": Op(_item, 2, 2),
    "json": Op(_json, 2, 2),
    "eq": Op(_comparison(equal), 2, 2),
    "ne": Op(_comparison(lambda left, right: not equal(left, right)), 2, 2),
    "lt": Op(_comparison(is_less), 2, 2),
    "le": Op(_comparison(lambda left, right: not is_less(right, left)), 2, 2),
    "gt": Op(_comparison(lambda left, right: is_less(right, left)), 2, 2),
    "ge": Op(_comparison(lambda left, right: not is_less(left, right)), 2, 2),
    "contains": Op(_contains, 2, 2),
    "is_in": Op(_is_in, 1, MANY),
    "and": Op(_and, 1, MANY),
    "or": Op(_or, 1, MANY),
    "not": Op(_not, 1, 1),
    "argmax": Op(_argmax, 1, MANY),
    "vote": Op(_vote, 1, MANY),
}
