"""What an engine was asked and what it said, and from that every sequence of ids that it had to
compute."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from furcate.protocol.message import Usage
from furcate.protocol.stream import (
    Append,
    Choose,
    EngineReady,
    Extend,
    Generate,
    NodeDone,
    OpenStream,
    StreamEnded,
)

from .unique import count_unique

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.stream import EngineEvent, EngineRequest, StreamNode
    from furcate.runtime.scheduler.scheduler import Scheduler

__all__ = ["Tape", "TapedScheduler"]


@dataclass
class _Stream:
    opened: OpenStream
    nodes: list[StreamNode] = field(default_factory=list)
    done: dict[int, NodeDone] = field(default_factory=dict)
    ended: StreamEnded | None = None


class Tape:
    """Written by whoever passes the messages on."""

    def __init__(self) -> None:
        self._streams: dict[int, _Stream] = {}

    def clear(self) -> None:
        self._streams.clear()

    def asked(self, requests: Sequence[EngineRequest]) -> None:
        for request in requests:
            match request:
                case OpenStream():
                    self._streams[request.stream] = _Stream(request)
                case Append():
                    self._streams[request.stream].nodes.extend(request.nodes)
                case _:
                    pass

    def said(self, events: Sequence[EngineEvent]) -> None:
        for event in events:
            stream = self._streams.get(getattr(event, "stream", -1))
            if stream is None:
                continue
            if isinstance(event, NodeDone):
                stream.done[event.node] = event
            elif isinstance(event, StreamEnded):
                stream.ended = event

    @property
    def all_ended(self) -> bool:
        return all(stream.ended is not None for stream in self._streams.values())

    @property
    def failures(self) -> list[str]:
        ended = (s.ended for s in self._streams.values() if s.ended is not None)
        return [f"{e.code}: {e.message}" for e in ended if e.code is not None]

    @property
    def usage(self) -> Usage:
        ended = (s.ended for s in self._streams.values() if s.ended is not None)
        return sum((event.usage for event in ended), Usage())

    def generated(self) -> list[tuple[int, ...]]:
        """The ids of every generation and choice, by stream and node."""
        streams = (self._streams[key] for key in sorted(self._streams))
        return [done.ids for s in streams for _, done in sorted(s.done.items())]

    @property
    def num_unique(self) -> int:
        """How many tokens a forward must see if nothing is computed twice."""
        return count_unique([ids for key in self._streams for ids in self._needed(key)])

    def _needed(self, key: int) -> list[list[int]]:
        """What each node of the stream needs computed: all that a token is predicted from."""
        stream = self._streams[key]
        ids = self._ids_after(key, 0)
        needed: list[list[int]] = []
        for number, node in enumerate(stream.nodes):
            done = stream.done.get(number)
            match node:
                case Generate() if done is not None:
                    drew_an_end = done.finish in ("eos", "stop")  # behind all that is output
                    needed.append([*ids, *(done.ids if drew_an_end else done.ids[:-1])])
                case Choose():
                    needed += [[*ids, *choice[:-1]] for choice in node.choices]
                    if node.unconditional:
                        needed += [[*node.unconditional, *c[:-1]] for c in node.choices]
                case _:
                    pass
            ids = ids + _appended(node, done)
        return needed

    def _ids_after(self, key: int, num_nodes: int) -> list[int]:
        stream = self._streams[key]
        ids: list[int] = []
        if stream.opened.parent is not None:
            ids = self._ids_after(stream.opened.parent, stream.opened.parent_nodes)
        for number, node in enumerate(stream.nodes[:num_nodes]):
            ids = ids + _appended(node, stream.done.get(number))
        return ids


def _appended(node: StreamNode, done: NodeDone | None) -> list[int]:
    if isinstance(node, Extend):
        return list(node.ids)
    return list(done.ids) if done is not None else []


class TapedScheduler:
    """A scheduler for the engine's loop that writes a tape of what passes through it."""

    def __init__(self, scheduler: Scheduler, tape: Tape) -> None:
        self.scheduler = scheduler
        self._tape = tape

    def handle(self, requests: Sequence[EngineRequest]) -> None:
        self._tape.asked(requests)
        self.scheduler.handle(requests)

    def step(self) -> list[EngineEvent]:
        events = self.scheduler.step()
        self._tape.said(events)
        return events

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work

    def ready(self) -> EngineReady:
        return self.scheduler.ready()

    def close(self) -> None:
        self.scheduler.close()
