"""Writes the corpus of schemas: every leaf in every frame, and schemas as interfaces have them.

    python -m tests.bench.write_schemas [FOLDER]

The files are kept, so that other tools can read them; a test compares them with what this writes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # as a script: the checkout's packages come first
    ROOT = Path(__file__).resolve().parent.parent.parent
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.bench.schema_apis import APIS
from tests.bench.schema_leaves import LEAVES, Leaf

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FOLDER", "corpus", "text_of"]

FOLDER = Path(__file__).parent / "schemas"


def _record(properties: dict[str, Any], required: list[str], **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        **more,
    }


def _field(leaf: Leaf) -> Leaf:
    schema = _record({"id": {"type": "integer"}, "value": leaf.schema}, ["id", "value"])
    return _mapped(leaf, schema, lambda value: {"id": 7, "value": value})


def _optional(leaf: Leaf) -> Leaf:
    schema = _record({"value": leaf.schema, "note": {"type": "string"}}, [])
    framed = _mapped(leaf, schema, lambda value: {"value": value, "note": "n"})
    return Leaf(schema, [*framed.valid, {}, {"note": "alone"}], framed.invalid)


def _listed(leaf: Leaf) -> Leaf:
    schema = {"type": "array", "items": leaf.schema, "minItems": 1, "maxItems": 4}
    good = leaf.valid[0]
    return Leaf(schema, [[v] for v in leaf.valid] + [leaf.valid],
                [[good, v] for v in leaf.invalid] + [[]])  # fmt: skip


def _defined(leaf: Leaf) -> Leaf:
    """The older spelling of definitions."""
    schema = _record(
        {"first": {"$ref": "#/definitions/thing"}, "second": {"$ref": "#/definitions/thing"}},
        ["first"],
        definitions={"thing": leaf.schema},
    )
    good = leaf.valid[0]
    return _mapped(leaf, schema, lambda value: {"first": good, "second": value})


def _tree(leaf: Leaf) -> Leaf:
    node = _record(
        {"value": leaf.schema, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
        ["value", "children"],
    )
    schema = {"$ref": "#/$defs/node", "$defs": {"node": node}}
    good = leaf.valid[0]
    return _mapped(leaf, schema, lambda value: {
        "value": good, "children": [{"value": value, "children": []}],
    })  # fmt: skip


def _deep(leaf: Leaf) -> Leaf:
    schema: Any = leaf.schema
    for level in reversed(range(8)):
        schema = _record({f"level{level}": schema}, [f"level{level}"])

    def wrap(value: object) -> object:
        for level in reversed(range(8)):
            value = {f"level{level}": value}
        return value

    return _mapped(leaf, schema, wrap)


def _mapped(leaf: Leaf, schema: Any, wrap: Callable[[object], object]) -> Leaf:
    return Leaf(schema, [*map(wrap, leaf.valid)], [*map(wrap, leaf.invalid)])


FRAMES = {
    "field": _field,
    "optional": _optional,
    "list": _listed,
    "defined": _defined,
    "tree": _tree,
    "deep": _deep,
}


def corpus() -> dict[str, Leaf]:
    """Every file's name, without its ending, and what is in it."""
    framed = {
        f"{leaf}-in-{frame}": wrap(LEAVES[leaf])
        for leaf in LEAVES
        for frame, wrap in FRAMES.items()
    }
    return framed | {f"api-{name}": leaf for name, leaf in APIS.items()}


def text_of(leaf: Leaf) -> str:
    """A file's text: one test a line."""
    tests = [{"valid": True, "data": data} for data in leaf.valid]
    tests += [{"valid": False, "data": data} for data in leaf.invalid]
    lines = ",\n".join(f"  {json.dumps(test, ensure_ascii=False)}" for test in tests)
    schema = json.dumps(leaf.schema, ensure_ascii=False)
    return f'{{"schema": {schema},\n "tests": [\n{lines}\n]}}\n'


def main(folder: Path) -> None:
    for name, leaf in corpus().items():
        (folder / f"{name}.json").write_text(text_of(leaf), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
