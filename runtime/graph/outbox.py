"""What the front has to say, until its driver fetches it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from furcate.protocol.stream import Append

if TYPE_CHECKING:
    from collections.abc import Hashable

    from furcate.protocol.message import Event
    from furcate.protocol.stream import EngineRequest, StreamNode

__all__ = ["Outbox"]


@dataclass(slots=True)
class Outbox:
    """Messages in the order in which they must arrive. While `has_engine` is false nothing is kept
    for the engine: the one to come is told everything from the front's own books."""

    to_engine: list[EngineRequest] = field(default_factory=list)
    to_clients: dict[Hashable, list[Event]] = field(default_factory=dict)
    has_engine: bool = True

    def tell(self, client: Hashable, event: Event) -> None:
        self.to_clients.setdefault(client, []).append(event)

    def ask(self, request: EngineRequest) -> None:
        if self.has_engine:
            self.to_engine.append(request)

    def append(self, stream: int, node: StreamNode) -> None:
        """Adds a node to a stream; nodes in a row travel in one message."""
        if not self.has_engine:
            return
        last = self.to_engine[-1] if self.to_engine else None
        if isinstance(last, Append) and last.stream == stream:
            self.to_engine[-1] = Append(stream, (*last.nodes, node))
        else:
            self.to_engine.append(Append(stream, (node,)))

    def lose_engine(self) -> None:
        self.has_engine = False
        self.to_engine.clear()

    def take(self) -> Outbox:
        """What is in it; it is empty afterwards."""
        taken = Outbox(self.to_engine, self.to_clients)
        self.to_engine, self.to_clients = [], {}
        return taken
