"""The life of streams: opened, extended node by node, branched, ended.

Owns every stream's tokens and nodes and says what happens to it; each stream gets exactly one
StreamEnded. Tells the batcher who has something to compute; knows nothing of rows, pages or logits.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from msgspec import structs

from furcate.errors import ConstraintError
from furcate.protocol.stream import (
    Append,
    CancelStream,
    Choose,
    DefineConstraint,
    DropConstraint,
    End,
    Extend,
    Generate,
    Hint,
    NodeDone,
    OpenStream,
    Pin,
    StreamEnded,
    Tokens,
    Unpin,
)

from .admission import refusal
from .constraints import Constraints
from .generation import Generation, Outcome
from .longest_match import LongestMatch
from .stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from furcate.protocol.stream import (
        ChoiceResult,
        EngineEvent,
        EngineRequest,
        RawLogprob,
        StreamNode,
    )
    from furcate.runtime.clock import Clock
    from furcate.runtime.constrain.service import CompileService, Ticket

    from .batcher import Batcher

__all__ = ["Lifecycle"]


class Lifecycle:
    """`table[id]` are a token's bytes. `emit` takes each event, in order."""

    def __init__(
        self,
        batcher: Batcher,
        constraints: CompileService,
        table: Sequence[bytes],
        max_context: int,
        jump_forward: bool,
        clock: Clock,
        emit: Callable[[EngineEvent], None],
    ) -> None:
        self.streams: dict[int, Stream] = {}
        self._batcher = batcher
        self._constraints = Constraints(constraints)
        self._table = table
        self._max_context = max_context
        self._jump_forward = jump_forward
        self._clock = clock
        self._emit = emit
        self._bytes = LongestMatch(table)
        self._due: deque[Stream] = deque()  # streams to go on with; see `_advance`
        self._is_advancing = False
        self._late: list[Stream] = []  # streams that wait for a mask
        self._arrivals = 0

    # Requests ------------------------------------------------------------------------------------

    def handle(self, request: EngineRequest) -> None:
        match request:
            case OpenStream():
                self._open(request)
            case Append(stream=stream_id, nodes=nodes):
                self._append(stream_id, nodes)
            case Hint(stream=stream_id):
                if stream_id in self.streams:
                    self.streams[stream_id].hint = request
                    self._batcher.hinted(self.streams[stream_id])
            case Unpin(pin=pin):
                self._batcher.prospects.unpin(pin)
            case CancelStream(stream=stream_id):
                if stream_id in self.streams:
                    self.end(self.streams[stream_id], "cancelled", "the stream was cancelled")
            case DefineConstraint(id=key, constraint=constraint):
                self._constraints.define(key, constraint)
            case DropConstraint(id=key):
                self._constraints.drop(key)

    def _open(self, message: OpenStream) -> None:
        self._arrivals += 1
        stream = Stream.opened(message, self._arrivals, self._clock.now())
        self.streams[stream.id] = stream
        if message.parent is None:
            stream.ends.append(0)
            return
        parent = self.streams.get(message.parent)
        if parent is None:
            self.end(stream, "upstream", "the stream that it branches off has ended")
        elif parent.cursor >= message.parent_nodes:
            self._branch_off(stream, parent, message.parent_nodes)
        else:
            parent.children.append((message.parent_nodes, stream))

    def _branch_off(self, child: Stream, parent: Stream, num_nodes: int) -> None:
        child.tokens = parent.tokens[: parent.ends[num_nodes]]
        child.ends.append(len(child.tokens))
        child.namespace = parent.namespace
        self._advance(child)

    def _append(self, stream_id: int, nodes: tuple[StreamNode, ...]) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:  # else it has ended, which its opener has been told
            stream.nodes.extend(nodes)
            self._advance(stream)

    # Nodes ---------------------------------------------------------------------------------------

    def _advance(self, stream: Stream) -> None:
        """Goes on with the stream's nodes, and with those of the streams that this lets go. A call
        from inside itself leaves the work to the outer call: families may be thousands of forks
        deep, and a stream may have thousands of nodes that are over as soon as they begin."""
        self._due.append(stream)
        if self._is_advancing:
            return
        self._is_advancing = True
        while self._due:
            self._run_nodes(self._due.popleft())
        self._is_advancing = False

    def _run_nodes(self, stream: Stream) -> None:
        """Begins the next node, and runs those that need no forward."""
        self._release_children(stream)
        while stream.id in self.streams and stream.has_node and not stream.is_busy:
            node = stream.nodes[stream.cursor]
            stream.node_counts = stream.counts.copy()
            match node:
                case Extend(ids=ids):
                    if self._has_room(stream, len(ids)):
                        stream.tokens.extend(ids)
                        stream.counts.extended += len(ids)
                        self._node_ended(stream)
                case Generate():
                    self._begin_generation(stream, node)
                case Choose():
                    self._begin_choice(stream, node)
                case Pin():
                    self._begin_pin(stream, node)
                case End():
                    self.end(stream, None, None)
        if stream.id not in self.streams:
            return
        self._batcher.settle(stream)

    def _has_room(self, stream: Stream, count: int) -> bool:
        """Whether that many tokens fit; if not, the stream fails."""
        length = len(stream.tokens) + count
        pool, page_size = self._batcher.cache.pool, self._batcher.cache.page_size
        reason = refusal(length, pool.total, page_size)
        if length > self._max_context:
            reason = f"the model's context holds {self._max_context}"
        if reason is None:
            return True
        self.end(stream, "capacity", f"the prompt has {length} tokens and {reason}")
        return False

    def _begin_generation(self, stream: Stream, node: Generate) -> None:
        if not stream.tokens:
            self.end(stream, "usage", "there is no text before the generation to go on from")
            return
        left = self._batcher.limit_tokens - len(stream.tokens)
        budget = min(node.sampling.max_tokens, left)
        stream.generation = Generation(node, len(stream.tokens), budget, None)
        if (node.sampling.prompt_logprobs or 0) > stream.prompt_top:
            stream.prompt_top = node.sampling.prompt_logprobs or 0
            stream.prompt_logprobs.clear()  # those that are there have too few alternatives
        if node.constraint is not None:
            stream.generation.longest = self._constraints.longest(node.constraint)
            ticket = self._constraints.ticket(node.constraint)
            if ticket is None:
                self.end(stream, "usage", f"constraint {node.constraint!r} is not defined")
            elif ticket.ready:
                self._compiled(stream, ticket)
            else:
                self._constraints.wait(stream, ticket)
        if stream.needs_prompt_logprobs and stream.id in self.streams:
            self._batcher.recompute(stream)

    def _begin_choice(self, stream: Stream, node: Choose) -> None:
        longest = max(map(len, node.choices), default=0)
        if not stream.tokens:
            self.end(stream, "usage", "there is no text before the choices to go on from")
        elif not longest or not all(node.choices):
            self.end(stream, "usage", "a choice without tokens cannot be scored")
        elif node.method == "unconditional_likelihood_normalized" and not node.unconditional:
            self.end(
                stream,
                "usage",
                "unconditional_likelihood_normalized needs a model with a beginning-of-text token; "
                "use token_length_normalized",
            )
        elif self._has_room(stream, longest):
            stream.choice = node

    def _begin_pin(self, stream: Stream, node: Pin) -> None:
        stream.pin = node
        if not stream.tokens or (stream.lease and stream.computed == len(stream.tokens)):
            self._pin(stream)

    def pinned(self, stream: Stream) -> None:
        """Part of what is to be pinned is computed, or all of it."""
        if stream.computed == len(stream.tokens):
            self._pin(stream)
            self._advance(stream)

    def _pin(self, stream: Stream) -> None:
        node = stream.pin
        assert node is not None
        if not self._batcher.pin(stream, node) and node.strict:
            prospects = self._batcher.prospects
            reason = (
                f"{len(stream.tokens)} tokens are too many to pin: of the cache "
                f"{prospects.max_pinned} may be, and {prospects.num_pinned} are; unpin some, or "
                "raise --pin-share or --kv-bytes"
            )
            self.end(stream, "capacity", reason)
            return
        stream.pin = None
        self._node_ended(stream)

    def _node_ended(self, stream: Stream) -> None:
        """Moves on to the next node."""
        stream.ends.append(len(stream.tokens))
        self._release_children(stream)

    def _release_children(self, stream: Stream) -> None:
        """Lets go the children that branch off before the next node."""
        ready = [(at, child) for at, child in stream.children if at <= stream.cursor]
        if ready:
            self._batcher.publish(stream)
            stream.children = [(at, c) for at, c in stream.children if at > stream.cursor]
            for at, child in ready:
                self._branch_off(child, stream, at)

    # Constraints ---------------------------------------------------------------------------------

    @property
    def has_compiled(self) -> bool:
        """Whether a stream can go on because its constraint is ready, or its mask is there."""
        return self._constraints.has_ready or any(map(_has_mask, self._late))

    def poll_constraints(self) -> None:
        for stream, ticket in self._constraints.take_ready():
            self._compiled(stream, ticket)
            self._advance(stream)
        for stream in [stream for stream in self._late if _has_mask(stream)]:
            self._late.remove(stream)
            if stream.generation is not None:
                stream.generation.is_late = False
                self._batcher.settle(stream)

    def masks_are_late(self, streams: Sequence[Stream]) -> None:
        """They have missed their draw, and go on when the mask is there."""
        self._late += streams

    def _compiled(self, stream: Stream, ticket: Ticket) -> None:
        """Gives the stream's generation its matcher, or fails it."""
        active = stream.generation
        assert active is not None
        if ticket.error is not None:
            pointer = ticket.error.pointer if isinstance(ticket.error, ConstraintError) else None
            self.end(stream, ticket.error.code, str(ticket.error), pointer)
            return
        assert ticket.grammar is not None
        active.matcher = ticket.grammar.matcher(active.node.stop_ids)
        if active.budget > 0:
            self._force(stream)

    # Results -------------------------------------------------------------------------------------

    def drawn(self, stream: Stream, token_id: int | None, logprob: RawLogprob | None) -> None:
        """A token was sampled for the stream's generation; None where nothing may be drawn."""
        active = stream.generation
        assert active is not None
        if token_id is None:
            self._batcher.shorten(stream, len(stream.tokens))  # a row may have counted on it
            self._nothing_allowed(stream, active)
            return
        if active.matcher is not None and not active.matcher.accept(token_id):
            if token_id not in active.node.stop_ids:
                self.end(stream, "grammar_dead_end", "the constraint refused a token it allowed")
                return
        if active.queue:
            active.queue.pop(0)
            stream.counts.forced += 1
        else:
            stream.counts.decoded += token_id not in active.node.stop_ids
        if not self._take(stream, token_id, logprob):
            self._force(stream)
        if stream.generation is active and active.node.report:
            self._report(stream, active)

    def prefilled(self, stream: Stream) -> None:
        """All tokens of the stream are computed and its generation may produce none."""
        active = stream.generation
        assert active is not None
        self._finish(stream, active, Outcome("length", 0))

    def _nothing_allowed(self, stream: Stream, active: Generation) -> None:
        matcher = active.matcher
        failure = None if matcher is None else matcher.failure
        if matcher is not None and matcher.is_accepting and failure is None:
            self._finish(stream, active, Outcome("constraint", len(active.ids)))
            return
        text = bytes(active.stops.text[-60:]).decode("utf-8", "replace")
        reason = failure or "the constraint cannot be completed from here"
        self.end(stream, "grammar_dead_end", f"no token may follow {text!r}: {reason}")

    def _take(self, stream: Stream, token_id: int, logprob: RawLogprob | None) -> bool:
        """Adds a token to the generation; True if that ended it."""
        active = stream.generation
        assert active is not None
        outcome = active.take(token_id, self._table_bytes(token_id), logprob)
        if len(active.ids) > len(stream.tokens) - active.start:
            stream.tokens.append(token_id)
        else:  # an end, which is no part of the text; a row may have counted on it
            self._batcher.shorten(stream, len(stream.tokens))
        if outcome is not None:
            self._finish(stream, active, outcome)
        return outcome is not None

    def _table_bytes(self, token_id: int) -> bytes:
        """A model's vocabulary may be larger than its tokenizer's."""
        return self._table[token_id] if token_id < len(self._table) else b""

    def _force(self, stream: Stream) -> None:
        """Takes the tokens that the constraint leaves no choice about, without sampling them: at
        once, or one a step where jumping is off or log-probabilities are wanted: theirs, or those
        of a prompt that is not computed yet."""
        active = stream.generation
        if active is None or active.matcher is None or active.queue:
            return
        forced = active.matcher.forced_tokens(stream.tokens)
        needs_steps = active.node.sampling.logprobs is not None or stream.needs_prompt_logprobs
        if needs_steps or not self._jump_forward:
            active.queue.extend(forced)
            return
        for token_id in forced:
            if not active.matcher.accept(token_id):
                return
            stream.counts.forced += 1
            if self._take(stream, token_id, None):
                return

    def _report(self, stream: Stream, active: Generation) -> None:
        ids = active.unreported()
        if ids:
            self._emit(Tokens(stream.id, stream.cursor, tuple(ids)))

    def _finish(self, stream: Stream, active: Generation, outcome: Outcome) -> None:
        """Cuts the output where a stop string says so and reports the node."""
        keep = active.start + outcome.kept
        kept = active.ids[: outcome.kept] + self._bytes.encode(outcome.tail)
        if len(stream.tokens) > keep:
            del stream.tokens[keep:]
            self._batcher.shorten(stream, keep)
        stream.tokens.extend(kept[outcome.kept :])
        stream.counts.completion += len(kept)
        stream.generation = None
        self._batcher.generated(active.node.site, len(kept))
        wanted = active.node.sampling
        self._emit(
            NodeDone(
                stream.id,
                stream.cursor,
                tuple(kept),
                outcome.finish,
                stream.counts.since(stream.node_counts, active.start),
                outcome.matched,
                None if wanted.logprobs is None else tuple(active.logprobs[: outcome.kept]),
                _prompt_logprobs(stream, active.start, wanted.prompt_logprobs),
            )
        )
        self._node_ended(stream)
        self._advance(stream)

    def chosen(self, stream: Stream, result: ChoiceResult) -> tuple[int, ...]:
        """Appends the winner of the stream's Choose; its ids. `chose` must follow."""
        assert stream.choice is not None
        ids = stream.choice.choices[result.winner]
        start = len(stream.tokens)
        stream.tokens.extend(ids)
        stream.counts.completion += len(ids)
        self._emit(
            NodeDone(
                stream.id,
                stream.cursor,
                ids,
                "choice",
                stream.counts.since(stream.node_counts, start),
                choice=result,
            )
        )
        return ids

    def chose(self, stream: Stream) -> None:
        """The winner's KV is in place: goes on to the next node."""
        stream.choice = None
        self._node_ended(stream)
        self._advance(stream)

    # The end -------------------------------------------------------------------------------------

    def end(
        self, stream: Stream, code: str | None, message: str | None, pointer: str | None = None
    ) -> None:
        """The one way out. Children that have not branched off yet go too. Callable twice."""
        ending = deque([(stream, code, message, pointer)])
        while ending:
            stream, code, message, pointer = ending.popleft()
            if self.streams.pop(stream.id, None) is None:
                continue
            self._batcher.end(stream)
            self._constraints.forget(stream)
            self._emit(
                StreamEnded(stream.id, stream.usage, code, max(0, stream.cursor), message, pointer)
            )
            if code not in ("cancelled", "upstream"):  # the root cause is named once
                code, message = "upstream", f"the stream that it branches off failed: {message}"
            ending.extend((child, code, message, None) for _, child in stream.children)
            stream.children.clear()
            stream.generation = None
            stream.choice = None
            stream.pin = None


def _has_mask(stream: Stream) -> bool:
    """Or has no use for it any more."""
    active = stream.generation
    return active is None or active.mask is None or active.mask.is_done


def _prompt_logprobs(
    stream: Stream, count: int, num_top: int | None
) -> tuple[RawLogprob, ...] | None:
    """Of the first tokens, with as many alternatives as are wanted: there may be more."""
    if num_top is None:
        return None
    known = stream.prompt_logprobs[:count]
    return tuple(structs.replace(each, top=each.top[:num_top]) for each in known)
