"""All open streams, by the id under which the engine knows them.

Gives out ids, sends what streams say and routes what the engine reports. Every stream that was
opened stays here until its StreamEnded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.errors import WireError
from furcate.protocol.stream import (
    CancelStream,
    End,
    Extend,
    NodeDone,
    OpenStream,
    StreamEnded,
    Tokens,
)

from .cell import Failure
from .stream import Stream

if TYPE_CHECKING:
    from furcate.protocol.stream import StreamNode

    from .outbox import Outbox
    from .program import Program
    from .stream import Node, Origin, StreamOwner, Task

__all__ = ["Streams"]


class Streams:
    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._open: dict[int, tuple[Program, Stream]] = {}
        self._next_id = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(self, program: Program, owner: StreamOwner, origin: Origin) -> Stream:
        while origin.stream is not None and origin.nodes == 0:
            origin = origin.stream.origin
        stream = Stream(self._take_id(), owner, origin)
        self._launch(program, stream)
        return stream

    def append(
        self, stream: Stream, node: StreamNode, ordinal: int, task: Task | None = None
    ) -> None:
        """Sends a node, which `ordinal` of the program asked for."""
        stream.remember(node, ordinal, task)
        self._outbox.append(stream.id, node)

    def end(self, stream: Stream) -> None:
        if not (stream.closed or stream.cancelled or stream.ended):
            stream.closed = True
            self._outbox.append(stream.id, End())

    def cancel(self, stream: Stream) -> None:
        """Also one that was sent its End: it may be far from it."""
        if not (stream.cancelled or stream.ended):
            stream.cancelled = True
            self._outbox.ask(CancelStream(stream.id))

    def receive(self, event: Tokens | NodeDone | StreamEnded) -> Program | None:
        """Passes the event on; the program that it concerned. An event of a stream that is not open
        any more crossed its end on the way."""
        found = self._open.get(event.stream)
        if found is None:
            return None
        program, stream = found
        if isinstance(event, StreamEnded):
            self._end(program, stream, event)
        else:
            stream.heard = True
            self._report(stream, event)
        return program

    def forget_all(self) -> list[Program]:
        """The engine is gone and with it every stream; the programs that had any."""
        programs = {program.serial: program for program, _ in self._open.values()}
        for program, stream in self._open.values():
            stream.ended = True
            program.streams.pop(stream, None)
        self._open.clear()
        return list(programs.values())

    def check(self) -> None:
        for stream_id, (program, stream) in self._open.items():
            assert stream.id == stream_id, "a stream under another id"
            assert not stream.ended, "an ended stream in the table"
            assert stream in program.streams, "a stream that its program does not know"
            assert not program.is_finished or stream.cancelled, "a finished program still runs"

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _launch(self, program: Program, stream: Stream) -> None:
        """Opens the stream in the engine, with all the nodes it already has."""
        parent, nodes = stream.origin
        self._open[stream.id] = (program, stream)
        program.streams[stream] = None
        priority = program.options.priority
        if parent is None or not parent.ended:
            stream.parent_id = None if parent is None else parent.id
            stream.shift = 0
            at = 0 if parent is None else nodes + parent.shift
            self._outbox.ask(OpenStream(stream.id, program.serial, stream.parent_id, at, priority))
        else:
            stream.parent_id = None
            ids = parent.ids_at(nodes)
            assert ids is not None, "an ended stream has done every node before its end or failure"
            stream.shift = 1
            self._outbox.ask(OpenStream(stream.id, program.serial, priority=priority))
            self._outbox.append(stream.id, Extend(tuple(ids)))
        for node in stream.nodes:
            self._outbox.append(stream.id, node.message)
        if stream.closed:
            self._outbox.append(stream.id, End())

    def _report(self, stream: Stream, event: Tokens | NodeDone) -> None:
        node = self._node(stream, event.node)
        if node.task is None:
            raise WireError(
                f"the engine reports on node {event.node} of stream {event.stream}, "
                "which only extends it"
            )
        if isinstance(event, Tokens):
            node.task.take(event.ids)
            return
        node.ids = event.ids
        node.task.complete(event)

    def _node(self, stream: Stream, index: int) -> Node:
        place = index - stream.shift
        if not 0 <= place < stream.num_nodes:
            raise WireError(
                f"the engine reports on node {index} of stream {stream.id}, "
                f"which has {stream.num_nodes + stream.shift}"
            )
        return stream.nodes[place]

    def _end(self, program: Program, stream: Stream, event: StreamEnded) -> None:
        del self._open[stream.id]
        program.streams.pop(stream, None)
        program.usage += event.usage
        if event.code == "upstream" and stream.lost_its_parent and program.is_open:
            stream.id = self._take_id()
            self._launch(program, stream)
            return
        stream.ended = True
        if event.code is None:
            return
        place = max(event.node - stream.shift, 0)
        stream.failed_at = place
        ordinal = stream.nodes[place].ordinal if place < stream.num_nodes else 0
        message = event.message or "the engine gave no reason"
        stream.owner.fail_from(stream, place, Failure(event.code, message, ordinal, event.pointer))
