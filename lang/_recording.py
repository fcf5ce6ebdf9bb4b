"""The recording of a program: nodes that were recorded and not yet sent, and what the sent ones
were."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from furcate.protocol.graph import Drop, Node, Text

if TYPE_CHECKING:
    from furcate.protocol.constraint import Constraint
    from furcate.protocol.message import Options

__all__ = ["Recorded", "Recording", "Taken"]


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """A node with its source. `constraint` waits for its index in the connection's table, and so do
    those in the regions."""

    node: Node
    label: str
    location: str
    constraint: Constraint | None = None
    regions: tuple[tuple[Recorded, ...], ...] = ()  # the node's own are empty until it is written


@dataclass(frozen=True, slots=True)
class Taken:
    """One delta, ready to be written on a connection. `options` only with the first."""

    program: int
    epoch: int
    recorded: tuple[Recorded, ...]
    done: bool
    options: Options | None


class Recording:
    """Appended to by whoever runs the program's body, taken by whoever sends."""

    def __init__(self, options: Options) -> None:
        self.num_nodes = 0
        self.first_pending_s = 0.0
        self.pending_chars = 0
        self.dropped: deque[int] = deque()  # branches whose handles are gone; filled by finalizers
        self._options = options
        self._lock = threading.Lock()
        self._pending: list[Recorded] = []
        self._sent: list[tuple[str, str]] = []  # (label, location) by ordinal
        self._epoch = 0
        self._done = False
        self._done_sent = False

    @property
    def num_pending(self) -> int:
        return len(self._pending)

    @property
    def done(self) -> bool:
        return self._done

    def append(self, recorded: Recorded, now_s: float) -> None:
        with self._lock:
            if not self._pending:
                self.first_pending_s = now_s
            self._pending.append(recorded)
            self.num_nodes += 1
            if isinstance(recorded.node, Text) and isinstance(recorded.node.text, str):
                self.pending_chars += len(recorded.node.text)

    def close(self) -> None:
        """The body has returned."""
        with self._lock:
            self._done = True

    def take(self, program: int) -> Taken | None:
        """The next delta, or None where there is nothing to say."""
        with self._lock:
            while self.dropped and not self._done:
                branch = self.dropped.popleft()
                self._pending.append(Recorded(Drop(branch), "drop", ""))
            if not self._pending and (self._done_sent or not self._done):
                return None
            taken = Taken(
                program,
                self._epoch,
                tuple(self._pending),
                self._done,
                self._options if self._epoch == 0 else None,
            )
            self._pending.clear()
            self.pending_chars = 0
            self._epoch += 1
            self._done_sent = self._done
            return taken

    def written(self, recorded: Recorded) -> None:
        """The next ordinal is this node's. One node may be written as several."""
        self._sent.append((recorded.label, recorded.location))
        for region in recorded.regions:
            for inner in region:
                self.written(inner)

    def source(self, ordinal: int) -> tuple[str, str]:
        """Label and location of the node of that ordinal."""
        return self._sent[ordinal] if 0 <= ordinal < len(self._sent) else ("a node", "<unknown>:0")
