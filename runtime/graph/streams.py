"""All open streams, by the id under which the engine knows them.

Gives out ids, sends what streams say and routes what the engine reports. Every stream that was
opened stays here until its StreamEnded. When the engine ends, the streams are still here, with all
that is known of them; the next engine is told of them by `launch_all`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from furcate.errors import WireError
from furcate.protocol.message import Usage
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
    from collections.abc import Container, Iterator

    from furcate.protocol.stream import StreamNode

    from .outbox import Outbox
    from .program import Program
    from .stream import Node, Origin, StreamOwner, Task

__all__ = ["Streams"]


class Streams:
    """`now` is the time of whatever the front is handling. `held` programs have streams that no
    engine is told of yet. `to_hint` are programs whose streams may need another hint."""

    def __init__(self, outbox: Outbox) -> None:
        self.now = 0.0
        self.held: Container[Program] = ()
        self.to_hint: dict[Program, None] = {}
        self._outbox = outbox
        self._open: dict[int, tuple[Program, Stream]] = {}
        self._next_id = 0

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[tuple[Program, Stream]]:
        return iter(self._open.values())

    def open(self, program: Program, owner: StreamOwner, origin: Origin) -> Stream:
        while origin.stream is not None and origin.nodes == 0:
            origin = origin.stream.origin
        stream = Stream(self._take_id(), owner, origin)
        self._open[stream.id] = (program, stream)
        program.streams[stream] = None
        if self._outbox.has_engine and program not in self.held:
            self._launch(program, stream)
        return stream

    def append(
        self, stream: Stream, node: StreamNode, ordinal: int, task: Task | None = None
    ) -> None:
        """Sends a node, which `ordinal` of the program asked for."""
        stream.remember(node, ordinal, task)
        if stream.launched:
            self._outbox.append(stream.id, node)

    def end(self, stream: Stream) -> None:
        if stream.closed or stream.cancelled or stream.ended:
            return
        stream.closed = True
        if stream.launched:
            self._outbox.append(stream.id, End())
        elif stream.is_complete:
            self._forget(stream)

    def cancel(self, stream: Stream) -> None:
        """Also one that was sent its End: it may be far from it."""
        if stream.cancelled or stream.ended:
            return
        stream.cancelled = True
        if stream.launched:
            self._outbox.ask(CancelStream(stream.id))
        else:
            self._forget(stream)

    def program_of(self, event: Tokens | NodeDone | StreamEnded) -> Program | None:
        """None for a stream that is not open any more: the event crossed its end on the way."""
        found = self._open.get(event.stream)
        return None if found is None else found[0]

    def receive(self, event: Tokens | NodeDone | StreamEnded) -> None:
        """Passes on an event of an open stream. Raises WireError where it cannot be."""
        program, stream = self._open[event.stream]
        if isinstance(event, StreamEnded):
            self._end(program, stream, event)
        else:
            stream.heard = True
            self._report(stream, event)

    # Engines come and go -------------------------------------------------------------------------

    def engine_ended(self) -> None:
        """Nothing more will be heard of any stream. What is complete or unwanted ends here.

        Of the work, what the engine has reported counts; what it did for nodes that it did not get
        to the end of, nobody knows.
        """
        for program, stream in list(self._open.values()):
            program.usage += stream.usage
            stream.usage = Usage()
            if stream.is_complete:
                program.usage += Usage(prompt=stream.num_extended)
            stream.launched = stream.heard = False
            stream.hint = None
            if stream.cancelled or stream.is_complete or not program.is_open:
                self._forget(stream)

    def launch_all(self) -> list[Program]:
        """Tells the engine of every stream that it does not know, unless its program is held;
        their programs, each once."""
        missing = [
            (program, stream)
            for program, stream in self._open.values()
            if not stream.launched and program not in self.held
        ]
        for program, stream in missing:
            self._launch_family(program, stream)
        for _, stream in missing:  # only now: children name a parent before its End
            if stream.closed and stream.launched:
                self._outbox.append(stream.id, End())
        return list(dict.fromkeys(program for program, _ in missing))

    def forget_all(self) -> None:
        """The engine is gone, no other follows, and every stream has ended with it."""
        for _, stream in list(self._open.values()):
            self._forget(stream)

    def check(self) -> None:
        for stream_id, (program, stream) in self._open.items():
            assert stream.id == stream_id, "a stream under another id"
            assert not stream.ended, "an ended stream in the table"
            assert stream in program.streams, "a stream that its program does not know"
            assert not program.is_finished or stream.cancelled, "a finished program still runs"
            assert stream.launched or not self._outbox.has_engine or program in self.held

    # Inside --------------------------------------------------------------------------------------

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _forget(self, stream: Stream) -> None:
        program, _ = self._open.pop(stream.id)
        program.streams.pop(stream, None)
        stream.ended = True

    def _launch_family(self, program: Program, stream: Stream) -> None:
        """The stream, and before it those that it begins from: a chain of forks may be long."""
        lineage: list[Stream] = []
        each: Stream | None = stream
        while each is not None and not each.launched and not each.ended:
            lineage.append(each)
            each = each.origin.stream
        for each in reversed(lineage):
            self._rename(program, each)
            self._launch(program, each)

    def _rename(self, program: Program, stream: Stream) -> None:
        """An id that no engine has heard of: a late event of the old one finds nobody."""
        self._open.pop(stream.id, None)
        stream.id = self._take_id()
        self._open[stream.id] = (program, stream)
        program.streams[stream] = None

    def _launch(self, program: Program, stream: Stream) -> None:
        """Opens the stream in the engine, with all the nodes it already has but no End."""
        parent, nodes = stream.origin
        inherited: tuple[int, ...] = ()
        stream.parent_id, stream.shift, at = None, 0, 0
        if parent is not None and not parent.ended:
            stream.parent_id, at = parent.id, nodes + parent.shift
        elif parent is not None:
            ids = parent.ids_at(nodes)
            if ids is None:  # the parent failed before that, which the child was to learn
                why = "the stream that it branches off has failed"
                self._end(program, stream, StreamEnded(stream.id, Usage(), "upstream", 0, why))
                return
            inherited, stream.shift = tuple(ids), 1
        stream.launched = True
        stream.num_replayed = len(inherited) + stream.num_produced
        self._outbox.ask(self._open_message(program, stream, at))
        if stream.shift:
            self._outbox.append(stream.id, Extend(inherited))
        for node in stream.nodes:
            if node.task is not None and node.ids is None:
                node.task.begin_again()
            self._outbox.append(stream.id, node.replayed)

    def _open_message(self, program: Program, stream: Stream, at: int) -> OpenStream:
        left = None if program.deadline is None else max(program.deadline - self.now, 0.0)
        return OpenStream(
            stream.id,
            program.serial,
            stream.parent_id,
            at,
            program.options.priority,
            left,
            program.options.tenant,
        )

    def _report(self, stream: Stream, event: Tokens | NodeDone) -> None:
        node = self._node(stream, event.node)
        if node.task is None or node.ids is not None:
            raise WireError(
                f"the engine reports on node {event.node} of stream {event.stream}, "
                f"which {'only extends it' if node.task is None else 'was complete'}"
            )
        if isinstance(event, Tokens):
            node.task.take(event.ids)
            return
        # Each node's prompt is all that comes before it; the stream's is what was appended to it.
        stream.usage += structs.replace(event.usage, prompt=0)
        stream.learn(node, event.ids)
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
        usage = event.usage
        prompt = max(usage.prompt - stream.num_replayed, 0)
        program.usage += structs.replace(usage, prompt=prompt)
        if event.code == "upstream" and stream.lost_its_parent and program.is_open:
            self._rename(program, stream)
            self._launch(program, stream)
            if stream.closed and stream.launched:
                self._outbox.append(stream.id, End())
            return
        self._forget(stream)
        if event.code is None:
            return
        place = max(event.node - stream.shift, 0)
        stream.failed_at = place
        ordinal = stream.nodes[place].ordinal if place < stream.num_nodes else 0
        message = event.message or "the engine gave no reason"
        stream.owner.fail_from(stream, place, Failure(event.code, message, ordinal, event.pointer))
