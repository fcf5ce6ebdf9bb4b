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

from .unique import count_contexts, count_unique

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.stream import EngineEvent, EngineRequest, StreamNode
    from furcate.runtime.scheduler.scheduler import Scheduler

__all__ = ["Tape", "TapedScheduler", "Work"]


@dataclass
class _Stream:
    opened: OpenStream
    nodes: list[StreamNode] = field(default_factory=list)
    done: dict[int, NodeDone] = field(default_factory=dict)
    ended: StreamEnded | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """The least that any engine must do for what is on a tape."""

    tokens: int  # each computed once
    contexts: int  # tokens that these attend to, in sum
    logits: int  # rows of the head
    chain_steps: int  # of the longest chain: forwards of one token that each need the one before
    chain_prompt: int  # and the tokens that were given in it


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

    def calls(self) -> list[tuple[list[int], NodeDone]]:
        """Each generation and choice: the ids before it, and what came of it."""
        return [
            (self._ids_after(key, number), done)
            for key, stream in self._streams.items()
            for number, done in stream.done.items()
        ]

    @property
    def sequences(self) -> list[list[int]]:
        """All that a token is predicted from, over all streams and nodes."""
        return [ids for key in self._streams for ids in self._needed(key)]

    @property
    def num_unique(self) -> int:
        """How many tokens a forward must see if nothing is computed twice."""
        return count_unique(self.sequences)

    def work(self) -> Work:
        sequences, usage = self.sequences, self.usage
        num_logits = sum(
            sum(map(len, node.choices)) if isinstance(node, Choose) else 0
            for stream in self._streams.values()
            for node in stream.nodes
        )
        steps, prompt = max((self._chain(key, None) for key in self._streams), default=(0, 0))
        return Work(
            tokens=count_unique(sequences),
            contexts=count_contexts(sequences),
            logits=num_logits + usage.decoded,
            chain_steps=steps,
            chain_prompt=prompt,
        )

    def _chain(self, key: int, num_nodes: int | None) -> tuple[int, int]:
        """Forwards of one token up to there, and the tokens that were given. The first token of an
        output comes with the text before it."""
        stream = self._streams[key]
        steps = prompt = 0
        if stream.opened.parent is not None:
            steps, prompt = self._chain(stream.opened.parent, stream.opened.parent_nodes)
        given = 0
        for number, node in enumerate(stream.nodes[:num_nodes]):
            done = stream.done.get(number)
            match node:
                case Extend():
                    given += len(node.ids)
                case Generate() if done is not None:
                    steps += done.usage.decoded - (given > 0)
                    prompt, given = prompt + given, 0
                case _:
                    pass
        return steps, prompt

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
