"""A stream of the engine as the front sees it: which of its nodes are whose, and what they became.

Remembers every node with its ids. From them a stream is opened again: in the engine that takes the
place of one that ended, and when a child could not be branched off any more because its parent
failed at a *later* node while the child was on its way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from furcate.protocol.message import Usage
from furcate.protocol.stream import Choose, Extend, Hint, Pin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.stream import NodeDone, StreamNode

    from .cell import Failure

__all__ = ["NOWHERE", "Origin", "Stream", "StreamOwner", "Task"]


class Task(Protocol):
    """What waits for a Generate or Choose."""

    def take(self, ids: Sequence[int]) -> None:
        """Ids of a running generation."""

    def begin_again(self) -> None:
        """Another engine does the node from its beginning."""

    def complete(self, done: NodeDone) -> None: ...

    def fail(self, failure: Failure) -> None:
        """The node will not be done. Changes nothing if the task is over."""

    def cancel(self, failure: Failure) -> None:
        """Nobody wants its value any more."""


class StreamOwner(Protocol):
    def fail_from(self, stream: Stream, node: int, failure: Failure) -> None:
        """The stream has ended at `node` without doing it."""


class Origin(NamedTuple):
    """Where a stream begins: behind the first `nodes` nodes of another, or from nothing."""

    stream: Stream | None
    nodes: int

    @property
    def length(self) -> int:
        """At least how many tokens that is."""
        return self.stream.length_at(self.nodes) if self.stream else 0


NOWHERE = Origin(None, 0)


@dataclass(slots=True)
class Node:
    """`ids` are what it appended: None until the engine has said so. `num_crashes`: how many
    engines in a row have ended while it ran."""

    message: StreamNode
    ordinal: int
    length: int  # tokens of the stream after it, at least
    task: Task | None
    ids: tuple[int, ...] | None
    num_crashes: int = 0

    @property
    def replayed(self) -> StreamNode:
        """What an engine that has not seen it is told: known ids instead of how they came about."""
        if self.task is not None and self.ids is not None:
            return Extend(self.ids)
        return self.message


@dataclass(slots=True, eq=False)
class Stream:
    """`id` is its present name in the engine and `parent_id` the parent it gave; `shift` is how
    many engine nodes come before the first of ours, which is 1 after it was opened anew. `usage` is
    what the engine has reported of single nodes, until it reports the whole."""

    id: int
    owner: StreamOwner
    origin: Origin
    parent_id: int | None = None
    shift: int = 0
    nodes: list[Node] = field(default_factory=list)
    launched: bool = False  # the engine that runs now knows it
    closed: bool = False  # it has its End
    cancelled: bool = False  # CancelStream was sent
    ended: bool = False  # StreamEnded was received
    heard: bool = False  # the engine has reported on one of its nodes
    failed_at: int | None = None
    num_known: int = 0  # nodes from the first on whose ids are known
    usage: Usage = field(default_factory=Usage)
    num_replayed: int = 0  # tokens that this engine was given and that were no prompt before
    hint: Hint | None = None  # the last one that was sent

    @property
    def num_nodes(self) -> int:
        return len(self.nodes)

    @property
    def length(self) -> int:
        """How many tokens it will have at least, once the engine has run what it was given."""
        return self.length_at(self.num_nodes)

    def length_at(self, nodes: int) -> int:
        return self.nodes[nodes - 1].length if nodes else self.origin.length

    def remember(self, node: StreamNode, ordinal: int, task: Task | None) -> None:
        ids = node.ids if isinstance(node, Extend) else () if isinstance(node, Pin) else None
        self.nodes.append(Node(node, ordinal, self.length + _least_tokens(node), task, ids))
        self._count_known()

    def learn(self, node: Node, ids: tuple[int, ...]) -> None:
        """The engine has said what the node appended."""
        node.ids = ids
        self._count_known()

    def _count_known(self) -> None:
        while self.num_known < self.num_nodes and self.nodes[self.num_known].ids is not None:
            self.num_known += 1

    @property
    def is_complete(self) -> bool:
        """Nothing of it is left to compute."""
        return self.closed and self.num_known == self.num_nodes

    @property
    def running(self) -> Node | None:
        """The node that an engine is at, if it has got this far."""
        parent, nodes = self.origin
        may_begin = parent is None or parent.num_known >= nodes
        return self.nodes[self.num_known] if may_begin and self.num_known < self.num_nodes else None

    @property
    def num_pending(self) -> int:
        """Generations and choices that it was given and that are not done."""
        return sum(node.task is not None for node in self.nodes[self.num_known :])

    @property
    def num_extended(self) -> int:
        """Tokens that were appended as they are."""
        return sum(len(n.message.ids) for n in self.nodes if isinstance(n.message, Extend))

    @property
    def num_produced(self) -> int:
        """Tokens of the generations and choices that are done."""
        return sum(len(node.ids or ()) for node in self.nodes if node.task is not None)

    def ids_at(self, nodes: int) -> list[int] | None:
        """All tokens up to there; None if the engine has yet to make some of them."""
        parts: list[tuple[int, ...]] = []
        origin: Origin = Origin(self, nodes)
        while origin.stream is not None:
            for node in reversed(origin.stream.nodes[: origin.nodes]):
                if node.ids is None:
                    return None
                parts.append(node.ids)
            origin = origin.stream.origin
        return [token_id for part in reversed(parts) for token_id in part]

    @property
    def lost_its_parent(self) -> bool:
        """It may have failed for no reason of its own: the parent it named was gone when it
        arrived, though the parent failed only after the place where this one branches off."""
        parent = self.origin.stream
        if parent is None or self.parent_id is None or self.heard or self.cancelled:
            return False
        if parent.failed_at is not None:
            return self.origin.nodes <= parent.failed_at
        return parent.ended or parent.id != self.parent_id


def _least_tokens(node: StreamNode) -> int:
    """How many tokens the node adds whatever the model says."""
    if isinstance(node, Extend):
        return len(node.ids)
    if isinstance(node, Choose):
        return min(map(len, node.choices))
    return 0
