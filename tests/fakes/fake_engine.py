"""An engine without a model: obeys the stream protocol, one token a stream and step.

What it generates is a hash of everything before it and of the seed, so a wrong id, order, parent or
seed anywhere changes the output.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from furcate.protocol.message import PROTOCOL_VERSION, Usage
from furcate.protocol.stream import (
    Append,
    CancelStream,
    ChoiceResult,
    Choose,
    DefineConstraint,
    DropConstraint,
    End,
    EngineReady,
    Extend,
    Generate,
    NodeDone,
    OpenStream,
    RawLogprob,
    StreamEnded,
    Tokens,
)
from furcate.runtime.tokenize.byte_level import ByteTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from furcate.protocol.constraint import Constraint
    from furcate.protocol.stream import EngineEvent, EngineRequest, StreamNode

__all__ = ["FakeEngine"]

LETTERS = b"abcdefgh \xc3\xa9"


@dataclass(eq=False)
class FakeStream:
    id: int
    parent: int | None
    tokens: list[int] = field(default_factory=list)
    nodes: list[StreamNode] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)  # after 0, 1, … nodes
    children: list[tuple[int, FakeStream]] = field(default_factory=list)
    output: list[int] = field(default_factory=list)
    num_computed: int = 0
    num_extended: int = 0
    num_generated: int = 0

    @property
    def cursor(self) -> int:
        return len(self.lengths) - 1


class FakeEngine:
    """`script` may say what a Generate yields instead of the hash. A constraint whose body is "bad"
    does not compile. `asked` are all requests, `finals` the tokens of each stream as it ended."""

    def __init__(
        self,
        script: Callable[[Generate, Sequence[int]], Sequence[int]] | None = None,
        *,
        fingerprint: str = "",
        max_context: int = 4096,
    ) -> None:
        fingerprint = fingerprint or ByteTokenizer().fingerprint
        self._ready = EngineReady(PROTOCOL_VERSION, "fake", fingerprint, max_context, 300)
        self.asked: list[EngineRequest] = []
        self.streams: dict[int, FakeStream] = {}
        self.constraints: dict[int, Constraint] = {}
        self.finals: list[tuple[int, ...]] = []
        self.num_opened = 0
        self.num_ended = 0
        self._script = script
        self._events: list[EngineEvent] = []

    def handle(self, requests: Sequence[EngineRequest]) -> None:
        for request in requests:
            self.asked.append(request)
            match request:
                case OpenStream():
                    self._open(request)
                case Append(stream=stream_id, nodes=nodes):
                    if stream_id in self.streams:
                        self.streams[stream_id].nodes.extend(nodes)
                case CancelStream(stream=stream_id):
                    if stream_id in self.streams:
                        self._end(self.streams[stream_id], "cancelled", "cancelled")
                case DefineConstraint(id=key, constraint=constraint):
                    assert key not in self.constraints
                    self.constraints[key] = constraint
                case DropConstraint(id=key):
                    del self.constraints[key]

    def ready(self) -> EngineReady:
        return self._ready

    @property
    def has_work(self) -> bool:
        can_run = (s.lengths and s.cursor < len(s.nodes) for s in self.streams.values())
        return bool(self._events) or any(can_run)

    def step(self) -> list[EngineEvent]:
        for stream in list(self.streams.values()):
            if stream.id in self.streams and stream.lengths:
                self._run(stream)
        events, self._events = self._events, []
        return events

    def _open(self, message: OpenStream) -> None:
        self.num_opened += 1
        assert message.stream not in self.streams
        stream = self.streams[message.stream] = FakeStream(message.stream, message.parent)
        if message.parent is None:
            stream.lengths.append(0)
            return
        assert message.parent_nodes > 0, "what the parent itself inherited has a nearer name"
        parent = self.streams.get(message.parent)
        if parent is None:
            self._end(stream, "upstream", "the stream that it branches off has ended")
        elif parent.cursor >= message.parent_nodes:
            self._branch_off(stream, parent, message.parent_nodes)
        else:
            parent.children.append((message.parent_nodes, stream))

    def _branch_off(self, child: FakeStream, parent: FakeStream, nodes: int) -> None:
        child.tokens = parent.tokens[: parent.lengths[nodes]]
        child.lengths.append(len(child.tokens))
        child.num_computed = len(child.tokens)

    def _run(self, stream: FakeStream) -> None:
        """All that needs no token, then at most one token."""
        while stream.id in self.streams and stream.cursor < len(stream.nodes):
            match stream.nodes[stream.cursor]:
                case Extend(ids=ids):
                    stream.tokens += ids
                    stream.num_extended += len(ids)
                    self._node_ended(stream)
                case Choose() as choose:
                    self._choose(stream, choose)
                    return
                case Generate() as generate:
                    self._generate(stream, generate)
                    return
                case End():
                    self._end(stream, None, None)

    def _generate(self, stream: FakeStream, node: Generate) -> None:
        assert stream.tokens, "nothing to go on from"
        if node.constraint is not None and self.constraints[node.constraint].body == "bad":
            self._end(stream, "constraint", "unknown keyword 'bad'", "/bad")
            return
        start = len(stream.tokens) - len(stream.output)
        wanted = self._wanted(node, stream.tokens[:start], stream.tokens)
        finish = None
        if len(stream.output) >= node.sampling.max_tokens or wanted is None:
            finish = "length"
        elif wanted in node.stop_ids:
            finish = "eos"
        else:
            stream.output.append(wanted)
            stream.tokens.append(wanted)
            if node.report and not node.stops:
                self._events.append(Tokens(stream.id, stream.cursor, (wanted,)))
        if finish is None:
            return
        output, matched = self._cut(stream, node, start)
        stream.num_generated += len(output)
        self._events.append(
            NodeDone(
                stream.id,
                stream.cursor,
                output,
                "stop" if matched else finish,
                Usage(prompt=start, completion=len(output), decoded=len(output)),
                matched,
                None
                if node.sampling.logprobs is None
                else tuple(RawLogprob(-0.5, i, ((-0.5, i),)) for i in output),
            )
        )
        stream.output = []
        self._node_ended(stream)

    def _wanted(self, node: Generate, prompt: Sequence[int], tokens: Sequence[int]) -> int | None:
        if self._script is not None:
            script = self._script(node, prompt)
            index = len(tokens) - len(prompt)
            return script[index] if index < len(script) else None
        digest = hashlib.blake2b(repr((node.seed, list(tokens))).encode(), digest_size=4).digest()
        value = int.from_bytes(digest, "little")
        if value % 5 == 0 and node.stop_ids:
            return node.stop_ids[0]
        return LETTERS[value % len(LETTERS)]

    def _cut(
        self, stream: FakeStream, node: Generate, start: int
    ) -> tuple[tuple[int, ...], bytes | None]:
        """Cuts at the first stop string; a token is a byte here."""
        text = bytes(token for token in stream.output if token < 256)
        found = [(text.find(stop), stop) for stop in node.stops if stop in text]
        if not found:
            return tuple(stream.output), None
        cut, stop = min(found)
        del stream.tokens[start + cut :]
        return tuple(stream.output[:cut]), stop

    def _choose(self, stream: FakeStream, node: Choose) -> None:
        assert stream.tokens
        assert all(node.choices)
        digest = hashlib.blake2b(repr((node.seed, stream.tokens)).encode(), digest_size=4).digest()
        winner = int.from_bytes(digest, "little") % len(node.choices)
        rows = tuple(tuple(-1.0 for _ in ids) for ids in node.choices)
        stream.tokens += node.choices[winner]
        stream.num_generated += len(node.choices[winner])
        share = 1 / len(node.choices)
        result = ChoiceResult(winner, rows, (-1.0,) * len(rows), (share,) * len(rows), 0.5)
        self._events.append(
            NodeDone(
                stream.id,
                stream.cursor,
                node.choices[winner],
                "choice",
                Usage(completion=len(node.choices[winner])),
                choice=result,
            )
        )
        self._node_ended(stream)

    def _node_ended(self, stream: FakeStream) -> None:
        stream.lengths.append(len(stream.tokens))
        for nodes, child in stream.children:
            if nodes == stream.cursor:
                self._branch_off(child, stream, nodes)
        stream.children = [(n, child) for n, child in stream.children if n > stream.cursor]

    def _end(
        self, stream: FakeStream, code: str | None, message: str | None, pointer: str | None = None
    ) -> None:
        if self.streams.pop(stream.id, None) is None:
            return
        self.num_ended += 1
        if code is None:
            self.finals.append(tuple(stream.tokens))
        usage = Usage(
            prompt=stream.num_extended,
            completion=stream.num_generated,
            computed=len(stream.tokens) - stream.num_computed,
        )
        self._events.append(
            StreamEnded(stream.id, usage, code, max(0, stream.cursor), message, pointer)
        )
        for _, child in stream.children:
            self._end(child, code if code == "cancelled" else "upstream", message)
        stream.children = []
