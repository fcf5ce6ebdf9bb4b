"""Which streams run, and the rows of the next step: admission, chunks, retraction.

Owns the queue of waiting streams, the list of running ones and the KV cache. Decides by lengths and
pages alone; what the tokens mean, and what happens to the results, is decided elsewhere.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from furcate.runtime.cache import KVCache, Lease, Pending

from .plan import StepPlan
from .selection import Trie, build_trie

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .stream import Stream

__all__ = ["Batcher", "Branches", "Step", "StreamRow"]


@dataclass(slots=True)
class Branches:
    """The trie of a Choose in a step: a lease for each segment and where its logits begin. `root`
    is the index of the logits that predict the first tokens; `context` the lease of an
    unconditional one."""

    trie: Trie
    root: int
    leases: list[Lease] = field(default_factory=list)
    logits: list[int] = field(default_factory=list)
    context: Lease | None = None


@dataclass(slots=True)
class StreamRow:
    """A stream's part of a step: positions `begin` to `begin + count`. Its logits, the last
    `num_logits` of them, begin at `logit`."""

    stream: Stream
    begin: int
    count: int
    logit: int
    num_logits: int
    branches: Branches | None = None
    unconditional: Branches | None = None


@dataclass(slots=True)
class Step:
    plan: StepPlan
    rows: list[StreamRow] = field(default_factory=list)


class Batcher:
    """Streams of higher priority first, then older ones. Decode rows go before prompt chunks, so
    that a long prompt delays nobody who is already talking. A stream is waiting or running exactly
    while it has something to compute."""

    def __init__(self, num_pages: int, page_size: int, max_rows: int, budget_tokens: int) -> None:
        self.cache = KVCache(num_pages, page_size)
        self.waiting: list[Stream] = []  # by order
        self.running: list[Stream] = []  # by admission; these hold leases
        self.retractions = 0
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
        before = list(self.running)
        chunks = [s for s in before if s.target - s.computed > 1 or s.choice is not None]
        for stream in before:
            if stream not in chunks:
                self._schedule(stream, planned)
        for stream in chunks:
            self._schedule(stream, planned)
        while self.waiting and planned.plan.budget_tokens > 0:
            if len(self.running) >= self._max_rows or not self._admit(self.waiting[0], planned):
                break
        return planned

    def stuck(self) -> Stream | None:
        """After a plan without rows: the stream that does not fit though it has all the memory."""
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
            return False
        planned.plan.add_copies(copies)
        self.waiting.pop(0)
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
        trie = build_trie(choose.choices)
        row.branches = self._branch(trie, lease, len(stream.tokens), row.logit, planned)
        if row.branches is None or choose.method != "unconditional_likelihood_normalized":
            return
        context = self.cache.open((), limit=0)
        assert not isinstance(context, Pending)
        ids = choose.unconditional
        if self.cache.extend(context, len(ids), planned.plan.step) is not None:
            root = planned.plan.add_row(ids, 0, context.page_table(), 1)
            row.unconditional = self._branch(trie, context, len(ids), root, planned)
        if row.unconditional is None:
            self.cache.release(context, planned.plan.step)
            self.free(row.branches, planned.plan.step)
            row.branches = None
        else:
            row.unconditional.context = context

    def has_room_for_choices(self, stream: Stream) -> bool:
        """Whether the stream's Choose would fit if it had the cache to itself."""
        assert stream.choice is not None
        cache = self.cache
        whole = cache.pages_for(len(stream.tokens))
        segments = build_trie(stream.choice.choices).segments
        # A segment may begin inside a page, which it then has to itself.
        branches = sum(cache.pages_for(len(s.ids) + cache.page_size - 1) for s in segments)
        if stream.choice.unconditional:
            branches = 2 * branches + cache.pages_for(len(stream.choice.unconditional))
        return whole + branches <= cache.pool.total

    def _branch(
        self, trie: Trie, trunk: Lease, length: int, root: int, planned: Step
    ) -> Branches | None:
        branches = Branches(trie, root)
        ends: list[int] = []
        for segment in trie.segments:
            parent = trunk if segment.parent < 0 else branches.leases[segment.parent]
            begin = length if segment.parent < 0 else ends[segment.parent]
            lease = self.cache.branch(parent)
            branches.leases.append(lease)
            ends.append(begin + len(segment.ids))
            copies = self.cache.extend(lease, ends[-1], planned.plan.step)
            if copies is None:
                self.free(branches, planned.plan.step)
                return None
            planned.plan.add_copies(copies)
        for segment, lease, end in zip(trie.segments, branches.leases, ends, strict=True):
            count = len(segment.ids)
            branches.logits.append(
                planned.plan.add_row(segment.ids, end - count, lease.page_table(), count)
            )
        return branches

    def adopt(self, stream: Stream, branches: Branches, winner: int, step: int) -> None:
        """The winner's computed tokens, which are in `stream.tokens` already, become the
        stream's."""
        segment, count = branches.trie.reached[winner]
        if segment < 0:
            return
        assert stream.lease is not None
        branch = branches.leases.pop(segment)
        excess = len(branches.trie.segments[segment].ids) - count
        length = branch.length - excess
        self.cache.adopt(stream.lease, branch, step)
        self.cache.truncate(stream.lease, length, step)
        stream.computed = length
        stream.covered = max(stream.covered, length)

    def free(self, branches: Branches, step: int) -> None:
        for lease in branches.leases:
            self.cache.release(lease, step)
        if branches.context is not None:
            self.cache.release(branches.context, step)
        branches.leases.clear()

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
