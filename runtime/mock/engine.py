"""An engine of texts: obeys the stream protocol, and asks its user for what a model would say.

One generation or choice at a time, in the order in which they were recorded, in the thread of
whoever calls. Knows of programs only what `Sites` tells.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from furcate.errors import FurcateError, UsageError
from furcate.protocol.message import PROTOCOL_VERSION, Usage
from furcate.protocol.stream import (
    Append,
    AskEngine,
    CancelStream,
    Choose,
    End,
    EngineFacts,
    EngineReady,
    Extend,
    Generate,
    NodeDone,
    OpenStream,
    Pin,
    RawLogprob,
    StreamEnded,
    Tokens,
)

from .asked import Asked
from .output import Output, choice_result, cut, logprobs
from .sites import Site

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.stream import EngineEvent, EngineRequest, StreamNode

    from .asked import Answer
    from .sites import Sites
    from .words import WordTokenizer

__all__ = ["MockEngine"]

UNBOUNDED = 2**31 - 1

Ready = tuple[int, int, int]  # site, sample and stream: the order in which they are run


class _Place(NamedTuple):
    """A stream after some of its nodes."""

    num_chars: int
    num_tokens: int


@dataclass(slots=True, eq=False)
class _Stream:
    """`places` has one for each node done, and the beginning; empty until the stream has branched
    off its parent."""

    id: int
    text: str = ""
    num_tokens: int = 0
    num_computed: int = 0  # tokens that a model would have computed by now, its parent's included
    nodes: deque[StreamNode] = field(default_factory=deque)
    places: list[_Place] = field(default_factory=list)
    children: list[tuple[int, _Stream]] = field(default_factory=list)
    num_extended: int = 0
    usage: Usage = field(default_factory=Usage)

    @property
    def num_done(self) -> int:
        return len(self.places) - 1

    def mark_place(self) -> None:
        self.places.append(_Place(len(self.text), self.num_tokens))


class MockEngine:
    def __init__(self, codec: WordTokenizer, sites: Sites, answer: Answer) -> None:
        self._codec = codec
        self._sites = sites
        self._answer = answer
        self._streams: dict[int, _Stream] = {}
        self._ready: list[Ready] = []  # a heap
        self._events: list[EngineEvent] = []

    def ready(self) -> EngineReady:
        fingerprint = self._codec.fingerprint
        return EngineReady(PROTOCOL_VERSION, "mock", fingerprint, UNBOUNDED, UNBOUNDED)

    @property
    def has_work(self) -> bool:
        return bool(self._ready or self._events)

    def set_aside(self) -> list[Ready]:
        """What is ready, which is not until it is put back: an answer may run a program of its own,
        and nothing else meanwhile."""
        waiting, self._ready = self._ready, []
        return waiting

    def put_back(self, waiting: list[Ready]) -> None:
        for each in self._ready:  # there only where an answer was interrupted
            heapq.heappush(waiting, each)
        self._ready = waiting

    def handle(self, requests: Sequence[EngineRequest]) -> None:
        """Notes what is to be done; asks for no answer."""
        for request in requests:
            match request:
                case OpenStream():
                    self._open(request)
                case Append(stream=stream_id, nodes=nodes):
                    if (stream := self._streams.get(stream_id)) is not None:
                        stream.nodes += nodes
                        if stream.places and len(stream.nodes) == len(nodes):
                            self._advance(stream)
                case CancelStream(stream=stream_id):
                    if (stream := self._streams.get(stream_id)) is not None:
                        self._end(stream, "cancelled", "cancelled")
                case AskEngine(number=number):
                    self._events.append(EngineFacts(number, {"streams": len(self._streams)}))
                case _:
                    pass  # hints, pins, constraints and the like: there is nothing to keep

    def step(self) -> list[EngineEvent]:
        """Runs one generation or choice, if one is ready; what is to be told."""
        while self._ready:
            _, _, stream_id = heapq.heappop(self._ready)
            if (stream := self._streams.get(stream_id)) is not None:
                self._run(stream)
                break
        events, self._events = self._events, []
        return events

    # Streams -------------------------------------------------------------------------------------

    def _open(self, message: OpenStream) -> None:
        stream = self._streams[message.stream] = _Stream(message.stream)
        if message.parent is None:
            stream.mark_place()
        elif (parent := self._streams.get(message.parent)) is None:
            self._end(stream, "upstream", "the stream that it branches off has ended")
        elif parent.num_done >= message.parent_nodes:
            _branch_off(stream, parent, message.parent_nodes)
        else:
            parent.children.append((message.parent_nodes, stream))

    def _advance(self, stream: _Stream) -> None:
        """As far as it can without an answer."""
        while stream.nodes:
            node = stream.nodes[0]
            match node:
                case Extend(ids=ids):
                    stream.text += self._codec.spell(ids)
                    stream.num_tokens += len(ids)
                    stream.num_extended += len(ids)
                    self._node_done(stream)
                case Pin():
                    self._node_done(stream)
                case Generate():
                    heapq.heappush(self._ready, (node.site, node.sample, stream.id))
                    return
                case Choose():
                    heapq.heappush(self._ready, (node.site, 0, stream.id))
                    return
                case End():
                    self._end(stream)
                    return
                case _:
                    self._end(stream, "usage", f"a mock knows no {type(node).__name__}")
                    return

    def _node_done(self, stream: _Stream) -> None:
        stream.nodes.popleft()
        stream.mark_place()
        if not stream.children:
            return
        born = [child for nodes, child in stream.children if nodes == stream.num_done]
        stream.children = [each for each in stream.children if each[0] > stream.num_done]
        for child in born:
            _branch_off(child, stream, stream.num_done)
            self._advance(child)

    def _end(
        self,
        stream: _Stream,
        code: str | None = None,
        message: str | None = None,
        pointer: str | None = None,
    ) -> None:
        if self._streams.pop(stream.id, None) is None:
            return
        usage = stream.usage + Usage(
            prompt=stream.num_extended, computed=max(stream.num_tokens - stream.num_computed, 0)
        )
        at = max(stream.num_done, 0)
        self._events.append(StreamEnded(stream.id, usage, code, at, message, pointer))
        for _, child in stream.children:
            self._end(child, code if code == "cancelled" else "upstream", message)

    # Answers -------------------------------------------------------------------------------------

    def _run(self, stream: _Stream) -> None:
        node = stream.nodes[0]
        try:
            if isinstance(node, Generate):
                done = self._generate(stream, node)
            else:
                assert isinstance(node, Choose)
                done = self._choose(stream, node)
        except FurcateError as error:
            self._end(stream, error.code, str(error), getattr(error, "pointer", None))
        except Exception as error:  # whatever the user's function raises is the node's failure
            self._end(stream, "backend", f"{type(error).__name__}: {error}")
        else:
            if stream.id in self._streams:  # the answer may have taken long, and have cancelled it
                self._complete(stream, done)

    def _complete(self, stream: _Stream, done: NodeDone) -> None:
        stream.text += self._codec.spell(done.ids)
        stream.num_tokens += len(done.ids)
        stream.num_computed = stream.num_tokens
        spent = done.usage
        stream.usage += Usage(
            completion=spent.completion, computed=spent.computed, decoded=spent.decoded
        )
        self._events.append(done)
        self._node_done(stream)
        self._advance(stream)

    def _generate(self, stream: _Stream, node: Generate) -> NodeDone:
        sampling, site = node.sampling, self._sites.get(node.site) or Site(node.sampling)
        if site.constraint is not None:
            self._sites.check(site.constraint)
        output = Output([], "length")  # of a prefill, for which nobody is asked
        if sampling.max_tokens > 0:
            answer = str(self._answer(_asked(stream.text, site, node.sample)))
            stops = [stop.decode("utf-8", "replace") for stop in node.stops]
            output = cut(answer, stops, sampling)
        ids = tuple(self._codec.encode("".join(output.words)))
        if node.report:
            self._events += [Tokens(stream.id, stream.num_done, (each,)) for each in ids]
        matched = None if output.matched is None else output.matched.encode()
        return NodeDone(
            stream.id,
            stream.num_done,
            ids,
            output.finish,
            _usage(stream, len(ids)),
            matched,
            logprobs(ids, sampling.logprobs),
            self._prompt_logprobs(stream.text, sampling.prompt_logprobs),
        )

    def _prompt_logprobs(self, text: str, num_top: int | None) -> tuple[RawLogprob, ...] | None:
        if num_top is None:
            return None
        first, *others = logprobs(self._codec.encode(text), num_top) or (RawLogprob(None, 0),)
        return (RawLogprob(None, first.token_id), *others)

    def _choose(self, stream: _Stream, node: Choose) -> NodeDone:
        site = self._sites.get(node.site)
        if site is None or site.choices is None:
            winner = 0
        else:
            rewound = self._codec.spell(node.choices[0]).removesuffix(site.choices[0])
            answer = self._answer(_asked(stream.text + rewound, site, 0))
            winner = _winner(site.choices, answer)
        ids = node.choices[winner]
        return NodeDone(
            stream.id,
            stream.num_done,
            ids,
            "choice",
            _usage(stream, len(ids)),
            choice=choice_result(node.choices, winner),
        )


def _branch_off(child: _Stream, parent: _Stream, nodes: int) -> None:
    num_chars, num_tokens = parent.places[nodes]
    child.text = parent.text[:num_chars]
    child.num_tokens = child.num_computed = num_tokens
    child.mark_place()


def _usage(stream: _Stream, num_new: int) -> Usage:
    num_computed = stream.num_tokens + num_new - stream.num_computed
    return Usage(
        prompt=stream.num_tokens, completion=num_new, computed=num_computed, decoded=num_new
    )


def _asked(text: str, site: Site, sample: int) -> Asked:
    return Asked(text, site.sampling, site.constraint, site.choices, sample, site.seed)


def _winner(choices: Sequence[str], answer: str | int) -> int:
    if isinstance(answer, str):
        if answer not in choices:
            raise UsageError(f"the reply {answer!r} is none of the choices")
        return choices.index(answer)
    if not 0 <= answer < len(choices):
        raise UsageError(f"the reply {answer!r} is no index of a choice")
    return answer
