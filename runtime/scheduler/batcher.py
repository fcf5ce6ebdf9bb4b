"""Which streams run, and the rows of the next step: admission, chunks, retraction.

Owns the queue of waiting streams, the list of running ones and the KV cache. Decides by lengths and
pages alone; what the tokens mean, and what happens to the results, is decided elsewhere.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from furcate.runtime.cache import KVCache, Lease, Pending

from .branches import ChoiceBranches
from .plan import StepPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .stream import Stream

__all__ = ["Batcher", "Step", "StreamRow"]


@dataclass(slots=True)
class StreamRow:
    """A stream's part of a step: positions `begin` to `begin + count`. Its logits, the last
    `num_logits` of them, begin at `logit`."""

    stream: Stream
    begin: int
    count: int
    logit: int
    num_logits: int
    branches: ChoiceBranches | None = None
    is_hopeless: bool = False  # its choices do not fit, though nobody else holds anything

    @property
    def is_short_of_room(self) -> bool:
        """There were no pages for the stream's choices."""
        at_choice = self.begin + self.count == len(self.stream.tokens)
        return at_choice and self.stream.choice is not None and self.branches is None


@dataclass(slots=True)
class Step:
    plan: StepPlan
    rows: list[StreamRow] = field(default_factory=list)


class Batcher:
    """Streams of higher priority first, then older ones. Decode rows go before prompt chunks, so
    that a long prompt delays nobody who is already talking. A stream is waiting or running exactly
    while it has something to compute.

    A path that was cut inside a page takes more pages than its length says. So a stream that cannot
    go on though nobody else runs becomes the `sole` one: it starts anew in an empty cache, and
    nobody else runs until its next tokens are computed. That no room is found then is final.
    """

    def __init__(self, num_pages: int, page_size: int, max_rows: int, budget_tokens: int) -> None:
        self.cache = KVCache(num_pages, page_size)
        self.waiting: list[Stream] = []  # by order
        self.running: list[Stream] = []  # by admission; these hold leases
        self.retractions = 0
        self._sole: Stream | None = None
        self._max_rows = max_rows
        self._budget_tokens = budget_tokens

    @property
    def capacity_tokens(self) -> int:
        """Positions that a stream can have when it has the cache to itself."""
        return self.cache.pool.total * self.cache.page_size

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    # Entering and leaving ------------------------------------------------------------------------

    def wake(self, stream: Stream) -> None:
        """The stream has something to compute. Idempotent."""
        if stream.lease is None and not stream.queued:
            stream.queued = True
            insort(self.waiting, stream, key=lambda other: other.order)

    def rest(self, stream: Stream) -> None:
        """The stream has nothing to compute for now, or ever: its KV stays in the tree, unlocked,
        as long as there is room. Idempotent."""
        if stream.lease is not None:
            self.running.remove(stream)
            self._let_go(stream)
        elif stream.queued:
            stream.queued = False
            self.waiting.remove(stream)

    def abandon(self, stream: Stream) -> None:
        """Takes the stream out without keeping its KV: the forward that computed it has failed."""
        if stream.lease is not None:
            self.running.remove(stream)
            self.cache.release(stream.lease)
            stream.lease = None
            stream.computed = 0
        self.rest(stream)

    def shorten(self, stream: Stream, length: int) -> None:
        """The stream's tokens from `length` on are no more."""
        stream.covered = min(stream.covered, length)
        if stream.lease is None or stream.computed <= length:
            return
        if stream.lease.inserted > length:  # part of what goes is in the tree: match anew
            self.running.remove(stream)
            stream.computed = length
            self._let_go(stream)
            self.wake(stream)
            return
        self.cache.truncate(stream.lease, length)
        stream.computed = length

    def step_back(self, stream: Stream) -> None:
        """All tokens are computed, and the logits after the last one are needed once more."""
        last = len(stream.tokens) - 1
        if stream.lease is not None and stream.lease.inserted > last:
            self.rest(stream)
            self.wake(stream)
        else:
            stream.computed = last

    def recompute(self, stream: Stream) -> None:
        """Forgets the stream's KV, to compute it again from its first token."""
        self.rest(stream)
        self.wake(stream)

    def _let_go(self, stream: Stream) -> None:
        lease = stream.lease
        assert lease is not None
        if lease.inserted < stream.computed:
            self.cache.insert(lease, stream.tokens, stream.computed, self.cache.completed_step)
        self.cache.release(lease)
        stream.lease = None
        stream.computed = 0

    # A step --------------------------------------------------------------------------------------

    def plan(self, step: int) -> Step:
        """The rows of forward `step`. Streams that can never run are left for `stuck`."""
        planned = Step(StepPlan(step, self._budget_tokens))
        if self._sole is not None and not self._sole.is_scheduled:
            self._sole = None
        if self._sole is None:
            self._plan_running(planned)
            self._plan_waiting(planned)
        if self._sole is not None and not planned.rows:
            self._plan_sole(self._sole, planned)
        return planned

    def _plan_running(self, planned: Step) -> None:
        decoding: list[Stream] = []
        chunks: list[Stream] = []
        for stream in self.running:
            is_chunk = stream.target - stream.computed > 1 or stream.choice is not None
            (chunks if is_chunk else decoding).append(stream)
        for stream in (*decoding, *chunks):
            self._schedule(stream, planned)

    def _plan_waiting(self, planned: Step) -> None:
        while self.waiting and self._sole is None and planned.plan.budget_tokens > 0:
            if len(self.running) >= self._max_rows or not self._admit(self.waiting[0], planned):
                break

    def _plan_sole(self, stream: Stream, planned: Step) -> None:
        if stream.lease is not None:
            self._schedule(stream, planned)
            return
        for other in tuple(self.running):
            self._retract(other)
        self.cache.evict(self.cache.pool.total)
        self._admit(stream, planned)

    def stuck(self) -> Stream | None:
        """After a plan without rows: the stream that does not fit though it has all the memory."""
        sole = self._sole
        if sole is not None and sole.is_scheduled:
            return sole
        return next(iter((*self.running, *self.waiting)), None)

    def _admit(self, stream: Stream, planned: Step) -> bool:
        step = planned.plan.step
        limit = 0 if stream.needs_prompt_logprobs else min(stream.target, len(stream.tokens) - 1)
        lease = self.cache.open(stream.tokens, limit=limit, ready_by=step)
        assert not isinstance(lease, Pending), "nothing is pending beyond the step being planned"
        if lease.cached_len >= stream.target:  # all it can do for now is in the cache already
            self.cache.release(lease)
            self.rest(stream)
            return True
        room = self.cache.num_available - len(self.running)
        needed = self.cache.pages_for(stream.target + 1) - len(lease.table) + 1
        if self.running and needed > room:
            self.cache.release(lease)
            return False
        copies = self.cache.extend(lease, max(stream.target, lease.length), step)
        if copies is None:
            self.cache.release(lease)
            if not self.running:
                self._sole = stream
            return False
        planned.plan.add_copies(copies)
        self.waiting.remove(stream)
        stream.queued = False
        self.running.append(stream)
        self._hold(stream, lease)
        self._schedule(stream, planned)
        return True

    def _hold(self, stream: Stream, lease: Lease) -> None:
        """Takes up a lease and counts what it saved: never what the stream itself computed
        before."""
        fresh = max(0, lease.cached_len - stream.covered)
        same_step = min(fresh, self._pending_len(lease))
        stream.counts.same_step += same_step
        stream.counts.reused += fresh - same_step
        stream.lease = lease
        stream.computed = lease.cached_len
        stream.covered = max(stream.covered, stream.computed)

    def _pending_len(self, lease: Lease) -> int:
        """Positions of the lease that the step being planned computes for another stream."""
        node, count = lease.node, 0
        while node.parent is not None:
            count += len(node.tokens) - node.ready_len(self.cache.completed_step)
            node = node.parent
        return count

    def _schedule(self, stream: Stream, planned: Step) -> None:
        """Adds the stream's next rows to the step, as far as budget and pages go."""
        plan = planned.plan
        if plan.budget_tokens <= 0 or stream.lease is None:  # retracted for one before it
            return
        if stream.target - stream.computed > 1:
            self._match_again(stream, planned)
        count = min(stream.target - stream.computed, plan.budget_tokens)
        if not self._extend(stream, stream.computed + count, planned):
            return
        begin, end = stream.computed, stream.computed + count
        lease = stream.lease
        assert lease is not None
        completes = end == len(stream.tokens)
        num_logits = count if stream.needs_prompt_logprobs else int(completes)
        ids = stream.tokens[begin:end]
        row = StreamRow(
            stream,
            begin,
            count,
            plan.add_row(ids, begin, lease.page_table(), num_logits),
            num_logits,
        )
        if count > 1 or stream.choice is not None:
            self.cache.insert(lease, stream.tokens, end, plan.step)
        if completes and stream.choice is not None:
            self._add_choices(row, planned)
        planned.rows.append(row)
        if stream is self._sole and end == stream.target and not row.is_short_of_room:
            self._sole = None

    def _match_again(self, stream: Stream, planned: Step) -> None:
        """Another stream may have computed, or be about to compute, what comes next here."""
        lease = stream.lease
        assert lease is not None
        if stream.needs_prompt_logprobs or lease.inserted < stream.computed:
            return
        limit = min(stream.target, len(stream.tokens) - 1)
        if self.cache.cached_prefix(stream.tokens, limit=limit) <= stream.computed:
            return
        self.cache.release(lease)
        again = self.cache.open(stream.tokens, limit=limit, ready_by=planned.plan.step)
        assert not isinstance(again, Pending)
        self._hold(stream, again)

    def _extend(self, stream: Stream, length: int, planned: Step) -> bool:
        """Pages for positions below `length`, retracting younger streams if need be; False if the
        stream cannot go on in this step (it may have been retracted itself)."""
        assert stream.lease is not None
        while True:
            copies = self.cache.extend(stream.lease, length, planned.plan.step)
            if copies is not None:
                planned.plan.add_copies(copies)
                return True
            victim = self._victim(planned)
            if victim is None:
                if len(self.running) == 1 and stream is not self._sole:
                    self._sole = stream
                    self._retract(stream)
                return False
            self._retract(victim)
            if victim is stream:
                return False

    def _victim(self, planned: Step) -> Stream | None:
        """The youngest running stream that is not in the step yet, unless it is the only one."""
        if len(self.running) == 1:
            return None
        busy = {row.stream.id for row in planned.rows}
        idle = [s for s in self.running if s.id not in busy]
        return max(idle, key=lambda s: s.order) if idle else None

    def _retract(self, stream: Stream) -> None:
        self.retractions += 1
        self.rest(stream)
        self.wake(stream)

    # Choices -------------------------------------------------------------------------------------

    def _add_choices(self, row: StreamRow, planned: Step) -> None:
        """Rows for the choices' trie, in the same forward as the last tokens before it. Where pages
        are short the stream waits: the row goes ahead as a plain chunk, and is tried again."""
        stream = row.stream
        choose, lease = stream.choice, stream.lease
        assert choose is not None
        assert lease is not None
        plan = planned.plan
        row.branches = ChoiceBranches.reserve(self.cache, plan, choose, lease, len(stream.tokens))
        if row.branches is not None:
            row.branches.add_rows(plan, choose, row.logit)
        elif stream is self._sole:
            row.is_hopeless = True
        elif len(self.running) == 1:
            self._sole = stream

    def adopt(self, stream: Stream, branches: ChoiceBranches, winner: int, step: int) -> None:
        """The winner's computed tokens, which are in `stream.tokens` already, become the
        stream's. The branches are no more."""
        assert stream.lease is not None
        length = branches.conditional.adopt(self.cache, stream.lease, winner, step)
        if length is not None:
            stream.computed = length
            stream.covered = max(stream.covered, length)
        branches.free(self.cache, step)

    # Afterwards ----------------------------------------------------------------------------------

    def retire(self, step: int) -> None:
        self.cache.retire(step)

    def check(self, streams: Sequence[Stream]) -> None:
        """Every invariant of the cache and of the streams' places in it; for tests."""
        self.cache.check()
        for stream in streams:
            inside = sum(s is stream for s in self.running) + sum(s is stream for s in self.waiting)
            assert inside <= 1, f"stream {stream.id} is queued twice"
            assert stream.queued == any(s is stream for s in self.waiting)
            assert (stream.lease is not None) == any(s is stream for s in self.running)
            if stream.lease is not None:
                assert stream.lease.inserted <= stream.computed <= len(stream.tokens)
                assert stream.computed <= stream.lease.length
        assert all(any(s is other for other in streams) for s in (*self.running, *self.waiting))
