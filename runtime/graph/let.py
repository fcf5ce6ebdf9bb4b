"""The pure operations of Let: what each does to values that are there.

`charge` is told the size of a text before it is made, and raises where that is too much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from furcate.errors import UsageError

from .cell import Ready

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from furcate.protocol.graph import LetOp
    from furcate.protocol.message import Element

    Charge = Callable[[int], None]

__all__ = ["literal", "run_let"]

ARITY: dict[str, tuple[int, int]] = {
    "concat": (1, 2**31),
    "strip": (1, 2),
    "lstrip": (1, 2),
    "rstrip": (1, 2),
    "lower": (1, 1),
    "upper": (1, 1),
    "replace": (3, 3),
    "removeprefix": (2, 2),
    "removesuffix": (2, 2),
    "len": (1, 1),
    "item": (2, 2),
    "list": (0, 2**31),
}

# A case mapping may turn one character into up to three.
MAX_CASE_GROWTH = 3


def literal(value: str | int | float | bool | None) -> Ready:
    """A literal operand as a value; its text is how Python prints it."""
    return Ready(value, value if isinstance(value, str) else str(value))


def run_let(op: LetOp, args: Sequence[Ready], charge: Charge) -> Ready:
    low, high = ARITY[op]
    if not low <= len(args) <= high:
        raise UsageError(f"let {op!r} takes {low} to {high} operands, got {len(args)}")
    if op == "len":
        data = args[0].data
        return literal(len(data) if isinstance(data, list) else len(_text(op, args[0])))
    if op == "item":
        return _item(args[0], args[1].data)
    if op == "list":
        return _list(args, charge)
    texts = [_text(op, arg) for arg in args]
    if op == "concat":
        separator, *parts = texts
        charge(sum(map(len, parts)) + len(separator) * len(parts))
        return literal(separator.join(parts))
    if op == "replace":
        text, old, new = texts
        charge(len(text) + text.count(old) * len(new))
        return literal(text.replace(old, new))
    text, *rest = texts
    charge(len(text) * MAX_CASE_GROWTH)
    return literal(getattr(text, op)(*rest))  # the op's name is one of ARITY's


def _list(args: Sequence[Ready], charge: Charge) -> Ready:
    elements: list[Element | list[Element]] = []
    for arg in args:
        if isinstance(arg.data, list) and any(isinstance(each, list) for each in arg.data):
            raise UsageError("let 'list' takes elements and lists of them, got a list of lists")
        charge(len(arg.text or "") + 8)
        elements.append(arg.data)  # type: ignore[arg-type]  # a list in it holds elements alone
    return Ready(elements, None)


def _text(op: str, value: Ready) -> str:
    if value.text is None:
        raise UsageError(f"let {op!r} needs a text, got a list; take one element of it with item")
    return value.text


def _item(value: Ready, key: object) -> Ready:
    """An element of a list, or of the JSON array or object that a text spells."""
    if isinstance(key, bool) or not isinstance(key, (int, str)):
        raise UsageError(f"let 'item' needs an index or a key, got {key!r}")
    container: object = value.data
    if isinstance(container, str):
        try:
            container = msgspec.json.decode(container)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UsageError(
                f"let 'item' {key!r} needs a list or JSON text, got {container!r:.80}: {error}"
            ) from error
    if (
        isinstance(container, list)
        and isinstance(key, int)
        and -len(container) <= key < len(container)
    ):
        return _element(container[key])
    if isinstance(container, dict) and isinstance(key, str) and key in container:
        return _element(container[key])
    raise UsageError(f"let 'item': there is no {key!r} in {container!r:.80}")


def _element(element: object) -> Ready:
    """A nested array or object travels as its JSON text, and so does a number too large to send."""
    if isinstance(element, int) and not -(2**63) <= element < 2**64:
        return literal(str(element))
    if element is None or isinstance(element, (str, int, float)):
        return literal(element)
    return literal(msgspec.json.encode(element).decode())
