"""A stream of the engine as the front sees it: which of its nodes are whose, and what they became.

Remembers every node with its ids. A child that the engine cannot branch off any more, because its
parent failed at a *later* node while the child was on its way, is opened again from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from furcate.protocol.stream import Choose, Extend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.stream import NodeDone, StreamNode

    from .cell import Failure

__all__ = ["NOWHERE", "Origin", "Stream", "StreamOwner", "Task"]


class Task(Protocol):
    """What waits for a Generate or Choose."""

    def take(self, ids: Sequence[int]) -> None:
        """Ids of a running generation."""

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
    """`ids` are what it appended: None until the engine has said so."""

    message: StreamNode
    ordinal: int
    length: int  # tokens of the stream after it, at least
    task: Task | None
    ids: tuple[int, ...] | None


@dataclass(slots=True, eq=False)
class Stream:
    """`id` is its present name in the engine and `parent_id` the parent it gave; `shift` is how
    many engine nodes come before the first of ours, which is 1 after it was opened anew."""

    id: int
    owner: StreamOwner
    origin: Origin
    parent_id: int | None = None
    shift: int = 0
    nodes: list[Node] = field(default_factory=list)
    closed: bool = False  # End was sent
    cancelled: bool = False  # CancelStream was sent
    ended: bool = False  # StreamEnded was received
    heard: bool = False  # the engine has reported on one of its nodes
    failed_at: int | None = None

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
        ids = node.ids if isinstance(node, Extend) else None
        self.nodes.append(Node(node, ordinal, self.length + _least_tokens(node), task, ids))

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
