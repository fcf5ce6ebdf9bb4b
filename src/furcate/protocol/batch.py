"""Deltas of one shape as one request, and back.

Two deltas have the same shape if they differ in nothing but literals: the numbers and texts inside
their nodes, and the seeds of their options. A Batch holds the first of them, and for each place in
which any differs the column of what the others have there. Expanding one gives the same deltas in
the same order; nodes that do not differ are the same objects in all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from furcate.errors import WireError

from .graph import Node
from .message import MAX_PATH, Batch, Column, Element, Graph

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["MAX_NODES", "MIN_DELTAS", "pack", "unpack"]

MIN_DELTAS = 4  # fewer are not worth the columns' overhead
MAX_NODES = 65_536  # of all deltas in one Batch together

Path = tuple[int | str, ...]
Tree = object  # a node as lists, maps and scalars

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(
    Node
).decode  # `convert` prepares for all kinds of nodes each time


def pack(deltas: Sequence[Graph], min_deltas: int = MIN_DELTAS) -> list[Graph | Batch]:
    """Puts a Batch in place of each run of at least so many deltas of the same shape."""
    packed: list[Graph | Batch] = []
    run: _Run | None = None
    for delta in deltas:
        if run is not None and run.add(delta):
            continue
        if run is not None:
            packed += run.packed(min_deltas)
        run = _Run(delta)
    if run is not None:
        packed += run.packed(min_deltas)
    return packed


def unpack(batch: Batch, max_nodes: int = MAX_NODES) -> Iterator[Graph]:
    """The deltas, each made when it is asked for. Raises WireError for a batch that is none; one of
    too many nodes before anything is made."""
    template, count = batch.template, len(batch.others)
    num_nodes = (count + 1) * max(len(template.nodes), 1)
    if num_nodes > max_nodes:
        raise WireError(f"a batch may have {max_nodes} nodes in all, this one has {num_nodes}")
    if len(batch.seeds) != (count if template.options is not None else 0):
        raise WireError(f"a batch of {count} more deltas has {len(batch.seeds)} seeds")
    differing = _by_node(batch)
    yield template
    for index, program in enumerate(batch.others):
        nodes = list(template.nodes)
        for place, (tree, columns) in differing.items():
            nodes[place] = _node(tree, columns, index)
        options = template.options
        if options is not None:
            options = replace(options, seed=batch.seeds[index])
        yield Graph(program, template.epoch, tuple(nodes), template.done, options)


class _Run:
    """Deltas in a row that have the shape of the first."""

    def __init__(self, first: Graph) -> None:
        self._deltas = [first]
        self._encoded: list[bytes] = []  # the nodes of the first; made with the second delta
        self._trees: dict[int, Tree] = {}  # those of them that another has differed from
        self._columns: dict[tuple[int, Path], dict[int, Element]] = {}  # by the delta's index

    def add(self, delta: Graph) -> bool:
        """Whether it is one of them, and now in here."""
        first = self._deltas[0]
        num_nodes = (len(self._deltas) + 1) * max(len(delta.nodes), 1)
        if num_nodes > MAX_NODES or not _may_match(first, delta):
            return False
        if not self._encoded:
            self._encoded = [_encode(node) for node in first.nodes]
        found: list[tuple[int, Path, Element]] = []
        for place, (node, known) in enumerate(zip(delta.nodes, self._encoded, strict=True)):
            if node is first.nodes[place] or _encode(node) == known:
                continue
            if not _differences(self._tree(place), msgspec.to_builtins(node), place, (), found):
                return False
        for place, path, value in found:
            self._columns.setdefault((place, path), {})[len(self._deltas)] = value
        self._deltas.append(delta)
        return True

    def packed(self, min_deltas: int) -> list[Graph | Batch]:
        if len(self._deltas) < max(min_deltas, 2):
            return [*self._deltas]
        first, *others = self._deltas
        columns = []
        for (place, path), values in self._columns.items():
            default = _leaf(self._tree(place), path)
            column = (values.get(index, default) for index in range(1, len(self._deltas)))
            columns.append(Column(place, path, tuple(column)))
        seeds = (delta.options.seed for delta in others if delta.options is not None)
        return [Batch(first, tuple(d.program for d in others), tuple(seeds), tuple(columns))]

    def _tree(self, place: int) -> Tree:
        tree = self._trees.get(place)
        if tree is None:
            tree = self._trees[place] = msgspec.to_builtins(self._deltas[0].nodes[place])
        return tree


def _may_match(one: Graph, other: Graph) -> bool:
    if (one.epoch, one.done, len(one.nodes)) != (other.epoch, other.done, len(other.nodes)):
        return False
    a, b = one.options, other.options
    if a is None or b is None:
        return a is b
    return replace(a, seed=b.seed) == b


def _differences(
    one: Tree, other: Tree, place: int, path: Path, found: list[tuple[int, Path, Element]]
) -> bool:
    """Notes each scalar that differs; False where anything but scalars does."""
    if len(path) > MAX_PATH:
        return False
    if isinstance(one, list | tuple):
        if not isinstance(other, list | tuple) or len(one) != len(other):
            return False
        pairs = zip(one, other, strict=True)
        return all(_differences(a, b, place, (*path, i), found) for i, (a, b) in enumerate(pairs))
    if isinstance(one, dict):
        if not isinstance(other, dict) or list(one) != list(other):
            return False
        return all(_differences(one[k], other[k], place, (*path, k), found) for k in one)
    if isinstance(other, list | tuple | dict):
        return False
    assert other is None or isinstance(other, str | int | float)
    if not _is_same(one, other):
        found.append((place, path, other))
    return True


def _is_same(one: Tree, other: Tree) -> bool:
    """On the wire, where 1, 1.0 and True are three things, and so are 0.0 and -0.0."""
    if type(one) is not type(other):
        return False
    return _encode(one) == _encode(other) if isinstance(one, float) else one == other


def _leaf(tree: Tree, path: Path) -> Element:
    for step in path:
        tree = _child(tree, step)
    if tree is not None and not isinstance(tree, str | int | float):
        raise WireError(f"the path {path!r} of a batch leads to no literal")
    return tree


def _child(tree: Tree, step: int | str) -> Tree:
    if isinstance(tree, list | tuple) and isinstance(step, int) and 0 <= step < len(tree):
        return tree[step]
    if isinstance(tree, dict) and step in tree:
        return tree[step]
    raise WireError(f"a step {step!r} in the path of a batch leads nowhere")


def _by_node(batch: Batch) -> Mapping[int, tuple[Tree, list[Column]]]:
    """The nodes that are not the same in all deltas, with their columns."""
    found: dict[int, tuple[Tree, list[Column]]] = {}
    for column in batch.columns:
        if column.node >= len(batch.template.nodes):
            raise WireError(f"a batch has a column for node {column.node}, which is not there")
        if len(column.values) != len(batch.others):
            raise WireError(
                f"a column of a batch has {len(column.values)} values for {len(batch.others)}"
            )
        if column.node not in found:
            node = batch.template.nodes[column.node]
            found[column.node] = (msgspec.to_builtins(node), [])
        tree, columns = found[column.node]
        _leaf(tree, column.path)
        columns.append(column)
    return found


def _node(tree: Tree, columns: Sequence[Column], index: int) -> Node:
    for column in columns:
        tree = _with(tree, column.path, column.values[index])
    try:
        node: Node = _decode(_encode(tree))
    except (msgspec.MsgspecError, RecursionError) as error:
        raise WireError(f"a delta of a batch is none: {error}") from error
    return node


def _with(tree: Tree, path: Path, value: Element) -> Tree:
    """The tree with another scalar there; shares all else with the one given."""
    if not path:
        return value
    step, *rest = path
    if isinstance(tree, dict):
        return {**tree, step: _with(tree[step], tuple(rest), value)}
    assert isinstance(tree, list | tuple)
    assert isinstance(step, int)
    changed = list(tree)
    changed[step] = _with(tree[step], tuple(rest), value)
    return changed
