"""The two append-only tables of a connection, seen from the client: what many programs share
travels once and is an index afterwards.

A text that occurs again, and a beginning that several texts share, become segments; a text that
occurs once stays where it is. Splitting a text changes nothing: neighbouring Text nodes are read as
one.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from msgspec.structs import replace

from furcate.errors import UsageError
from furcate.lang._recording import Recorded, Taken
from furcate.protocol.graph import ForkOver, Gen, Loop, Node, Switch, Text
from furcate.protocol.message import Constraints, Request, Segments

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from furcate.protocol.constraint import Constraint

__all__ = ["Tables", "Written"]

_MIN_CHARS = 64
_MAX_DEPTH = 4  # how many shared beginnings one text may be cut into
_MAX_TABLE_CHARS = 64 * 2**20
_MAX_RECENT = 1024
_MAX_CONSTRAINTS = 4096

Pieces = tuple[str | int, ...]
Written = list[tuple[Node, Recorded]]


class Tables:
    """Of one connection; called by one sender at a time."""

    def __init__(self) -> None:
        self._index_of: dict[str, int] = {}
        self._shared: dict[str, str] = {}  # by their first characters: beginnings in the table
        self._recent: OrderedDict[str, str] = OrderedDict()  # the last text with those characters
        self._num_chars = 0
        self._constraints: dict[Constraint, int] = {}

    def write(self, deltas: Sequence[Taken]) -> tuple[list[Request], list[Written]]:
        """The table entries that these deltas need first, and the nodes of each with indices."""
        first_segment, first_constraint = len(self._index_of), len(self._constraints)
        texts = [text for delta in deltas for text in _texts(delta.recorded)]
        pieces = self._split([text for text in texts if len(text) >= _MIN_CHARS], 0)
        written = [[*self._nodes(delta.recorded, pieces)] for delta in deltas]
        requests: list[Request] = []
        segments = tuple(self._index_of)[first_segment:] if self._grew(first_segment) else ()
        if segments:
            requests.append(Segments(first_segment, segments))
        if len(self._constraints) > first_constraint:
            fresh = tuple(self._constraints)[first_constraint:]
            requests.append(Constraints(first_constraint, fresh))
        return requests, written

    def _grew(self, first_segment: int) -> bool:
        return len(self._index_of) > first_segment

    def _nodes(
        self, recorded: Iterable[Recorded], pieces: dict[str, Pieces]
    ) -> Iterable[tuple[Node, Recorded]]:
        for item in recorded:
            node = item.node
            if isinstance(node, Text) and isinstance(node.text, str):
                for piece in pieces.get(node.text, (node.text,)):
                    yield Text(node.branch, piece), item
            else:
                yield self._node(item, pieces), item

    def _node(self, item: Recorded, pieces: dict[str, Pieces]) -> Node:
        node = item.node
        match node:
            case Gen() if item.constraint is not None:
                return replace(node, constraint=self._constraint_index(item.constraint))
            case Switch(cases=cases):
                regions = [self._region(region, pieces) for region in item.regions]
                filled = zip(cases, regions, strict=True)
                return replace(node, cases=tuple(replace(case, nodes=r) for case, r in filled))
            case Loop() | ForkOver():
                return replace(node, nodes=self._region(item.regions[0], pieces))
            case _:
                return node

    def _region(self, recorded: Iterable[Recorded], pieces: dict[str, Pieces]) -> tuple[Node, ...]:
        """One node stays one: their ordinals follow from what was recorded."""
        nodes: list[Node] = []
        for item in recorded:
            node = self._node(item, pieces)
            if isinstance(node, Text) and isinstance(node.text, str):
                parts = pieces.get(node.text, ())
                node = Text(node.branch, parts[0]) if len(parts) == 1 else node
            nodes.append(node)
        return tuple(nodes)

    def _constraint_index(self, constraint: Constraint) -> int:
        index = self._constraints.get(constraint)
        if index is None:
            if len(self._constraints) >= _MAX_CONSTRAINTS:
                raise UsageError(
                    f"this connection has used {_MAX_CONSTRAINTS} different constraints: build "
                    f"schemas and patterns once, not for each item, or open another connection"
                )
            index = self._constraints[constraint] = len(self._constraints)
        return index

    def _split(self, texts: Sequence[str], depth: int) -> dict[str, Pieces]:
        """How each of these texts is written."""
        groups: dict[str, list[str]] = {}
        for text in texts:
            groups.setdefault(text[:_MIN_CHARS], []).append(text)
        rests: dict[str, str] = {}
        heads: dict[str, str] = {}
        for key, group in groups.items():
            head = self._head(key, group)
            for text in dict.fromkeys(group):
                if head is not None and text.startswith(head):
                    heads[text], rests[text] = head, text[len(head) :]
        deeper = [rests[t] for t in texts if t in rests and len(rests[t]) >= _MIN_CHARS]
        further = self._split(deeper, depth + 1) if deeper and depth + 1 < _MAX_DEPTH else {}
        result: dict[str, Pieces] = {}
        for text, head in heads.items():
            rest = rests[text]
            tail = further.get(rest, (rest,)) if rest else ()
            result[text] = (self._index_of[head], *tail)
        return result

    def _head(self, key: str, group: Sequence[str]) -> str | None:
        """The beginning that all of the group share, in the table; None where nothing repeats."""
        known = self._shared.get(key)
        if known is not None and all(text.startswith(known) for text in group):
            return known
        before = known if known is not None else self._recent.get(key)
        candidates = [*group, before] if before is not None else list(group)
        self._remember(key, group[-1])
        if len(candidates) < 2:
            return None
        head = _common_beginning(candidates)
        if head not in self._index_of:
            if self._num_chars + len(head) > _MAX_TABLE_CHARS:
                return None
            self._index_of[head] = len(self._index_of)
            self._num_chars += len(head)
        self._shared[key] = head
        return head

    def _remember(self, key: str, text: str) -> None:
        self._recent[key] = text
        self._recent.move_to_end(key)
        if len(self._recent) > _MAX_RECENT:
            self._recent.popitem(last=False)


def _texts(recorded: Iterable[Recorded]) -> Iterable[str]:
    for item in recorded:
        if isinstance(item.node, Text) and isinstance(item.node.text, str):
            yield item.node.text
        for region in item.regions:
            yield from _texts(region)


def _common_beginning(texts: Sequence[str]) -> str:
    least, greatest = min(texts), max(texts)
    if least == greatest:
        return least
    return least[: next(i for i, char in enumerate(least + "\0") if greatest[i : i + 1] != char)]
