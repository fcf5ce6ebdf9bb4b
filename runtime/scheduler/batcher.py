"""Which streams run, and the rows of the next step: admission, chunks, retraction.

Owns the queue of waiting streams, the list of running ones and the KV cache. Decides by lengths and
pages alone; what the tokens mean, and what happens to the results, is decided elsewhere.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from furcate.runtime.cache import Lease, Pending

from .branches import ChoiceBranches
from .budget import StepBudget
from .due import due_ids, num_due
from .forecast import Forecast
from .leases import num_pending
from .pace import Pace
from .plan import StepPlan
from .policies import POLICIES, Surroundings
from .prospects import Prospects
from .sites import Sites
from .step import Step, StreamRow
from .waiting import WaitingQueue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.stream import Pin
    from furcate.runtime.cache import KVCache
    from furcate.runtime.clock import Clock
    from furcate.runtime.config import ScheduleConfig

    from .stream import Stream

__all__ = ["Batcher"]


class Batcher:
    """Who waits comes up in the order of a policy, and joins while the pages will last. Decode rows
    go before prompt chunks, so that a long prompt delays nobody who is already talking. A stream is
    waiting or running exactly while it has something to compute, or a row in flight.

    Steps may be planned while the one before is in flight. Where such a plan is short of pages it
    asks for calm: for the next plan to be made with nothing in flight. Only then is KV taken away
    from those who run.

    A path that was cut inside a page takes more pages than its length says. So a stream that cannot
    go on though nobody else runs becomes the `sole` one: it starts anew in an empty cache, and
    nobody else runs until its next tokens are computed. That no room is found then is final.
    """

    def __init__(
        self, cache: KVCache, max_context: int, config: ScheduleConfig, clock: Clock
    ) -> None:
        self.cache = cache
        num_tokens = cache.pool.total * cache.page_size
        self.prospects = Prospects(cache, clock, int(config.pin_share * num_tokens))
        self.running: list[Stream] = []  # by admission; these hold leases
        self.retractions = 0
        self.budget = StepBudget(config.budget_tokens, config.itl_ms / 1000, clock)
        self.pace = Pace(config.budget_tokens)
        self.sites = Sites()
        self._sole: Stream | None = None
        self._is_short = False  # of pages, in the plan made last
        self._max_rows = config.max_rows
        around = Surroundings(clock.now, self._cached_prefix, self.pace.seconds_needed)
        policy = POLICIES[config.policy]
        self.waiting = WaitingQueue(lambda: policy(around))
        # Positions that a stream can have when it has the cache to itself.
        self.limit_tokens = min(max_context, cache.pool.total * cache.page_size)
        self._forecast = Forecast(cache, self.sites, self.limit_tokens)

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    @property
    def needs_calm(self) -> bool:
        """The next step is to be planned with nothing in flight."""
        return self._is_short or self._sole is not None

    # Entering and leaving ------------------------------------------------------------------------

    def settle(self, stream: Stream) -> None:
        """Runs, waits or rests, as its tokens and nodes now say. Idempotent."""
        if stream.is_busy and not stream.in_flight and stream.scheduled == len(stream.tokens):
            self._step_back(stream)
        if stream.target > stream.scheduled:
            self._wake(stream)
        elif not stream.in_flight:
            self.rest(stream)

    def rest(self, stream: Stream) -> None:
        """The stream has nothing to compute for now: its KV stays in the tree, unlocked, as long as
        there is room. Idempotent."""
        if stream.lease is not None:
            self._let_go(stream)
        elif stream.queued:
            stream.queued = False
            self.waiting.remove(stream)

    def end(self, stream: Stream) -> None:
        """Nothing is ever asked of the stream again. Idempotent."""
        if stream.lease is not None:
            self._let_go(stream, is_over=True)
        self.rest(stream)
        self.prospects.end(stream)

    def abandon(self, stream: Stream) -> None:
        """Takes the stream out without keeping its KV: the forward that computed it has failed."""
        if stream.lease is not None:
            self._give_up(stream, stream.lease)
        self.rest(stream)

    def shorten(self, stream: Stream, length: int) -> None:
        """The stream's tokens from `length` on are no more."""
        stream.covered = min(stream.covered, length)
        stream.void(length)
        lease = stream.lease
        if lease is None:
            return
        if lease.inserted > length:  # part of what goes is in the tree: match anew
            stream.computed = min(stream.computed, length)
            self.recompute(stream)
            return
        self._forecast.freed()
        self.cache.truncate(lease, length)  # branches begin at the end of the lease
        stream.scheduled = min(stream.scheduled, length)
        stream.computed = min(stream.computed, length)

    def recompute(self, stream: Stream) -> None:
        """Lets go of the stream's KV, to match or compute it again from its first token."""
        self.rest(stream)
        self._wake(stream)

    def publish(self, stream: Stream) -> None:
        """Others want what is computed of the stream, or is about to be: puts it into the tree."""
        lease = stream.lease
        if lease is None:
            return
        steps = [(stream.computed, self.cache.completed_step)]
        steps += [(row.end, row.step) for row in stream.in_flight]
        for length, step in steps:
            if lease.inserted < length <= len(stream.tokens):
                self.cache.insert(lease, stream.tokens, length, step)

    def pin(self, stream: Stream, node: Pin) -> bool:
        """Keeps the KV of all its tokens, which are computed; False where that is too much."""
        self.publish(stream)
        return stream.lease is None or self.prospects.pin(node, stream, stream.lease)

    def flush(self) -> None:
        """Drops all KV that no stream holds, what is pinned included."""
        self.prospects.unpin_all()
        self.cache.evict(self.cache.pool.total)

    def hinted(self, stream: Stream) -> None:
        """The stream has another hint."""
        self.prospects.hinted(stream)
        if stream.queued:
            self.waiting.update(stream)

    def generated(self, site: int, num_tokens: int) -> None:
        """An output of the call site is complete."""
        self.sites.note(site, num_tokens)
        self.pace.generated(num_tokens)

    def _cached_prefix(self, stream: Stream) -> int:
        return self.cache.cached_prefix(stream.tokens, stream.namespace)

    def _wake(self, stream: Stream) -> None:
        if stream.lease is None and not stream.queued:
            stream.queued = True
            self.waiting.add(stream)

    def _step_back(self, stream: Stream) -> None:
        """All tokens are computed, and the logits after the last one are needed once more."""
        last = len(stream.tokens) - 1
        if stream.lease is not None and stream.lease.inserted > last:
            self.recompute(stream)
        else:
            stream.computed = stream.scheduled = last

    def _let_go(self, stream: Stream, is_over: bool = False) -> None:
        lease = stream.lease
        assert lease is not None
        stream.void(-1)
        self.publish(stream)
        if not is_over:
            self.prospects.leave(stream, lease)
        self._give_up(stream, lease, is_dead=is_over and stream.is_dead)

    def _give_up(self, stream: Stream, lease: Lease, is_dead: bool = False) -> None:
        """The stream does not run any more. What is not in the tree is lost."""
        self.running.remove(stream)
        self._forecast.freed()
        stream.void(-1)
        self.cache.release(lease, dead=is_dead)
        stream.lease = None
        stream.computed = stream.scheduled = 0

    # A step --------------------------------------------------------------------------------------

    def plan(self, step: int, is_calm: bool) -> Step:
        """The rows of forward `step`; `is_calm`: no forward is in flight. Streams that can never
        run are left for `stuck`."""
        planned = Step(StepPlan(step, self.budget.tokens(0)), is_calm)
        self._is_short = False
        self._forecast.begin()
        if self._sole is not None and not self._sole.is_scheduled:
            self._sole = None
        if self._sole is None:
            self._plan_running(planned)
            self._plan_waiting(planned)
        if self._sole is not None and is_calm and not planned.rows:
            self._plan_sole(self._sole, planned)
        return planned

    def _plan_running(self, planned: Step) -> None:
        decoding: list[Stream] = []
        chunks: list[Stream] = []
        for stream in self.running:
            count = num_due(stream, planned.plan.step, self.limit_tokens)
            if count == 1 and stream.choice is None:
                decoding.append(stream)
            elif count > 0:
                chunks.append(stream)
        if self.budget.has_target:
            attended = sum(stream.scheduled + 1 for stream in decoding)
            depth = chunks[0].scheduled if chunks else 0
            planned.plan.budget_tokens = self.budget.tokens(len(decoding), attended, depth)
        for stream in (*decoding, *chunks):
            self._schedule(stream, planned)

    def _plan_waiting(self, planned: Step) -> None:
        if not self._may_admit(planned):
            return
        for stream in self.waiting.candidates():
            if self._forecast.is_refused(stream):
                break
            if not self._admit(stream, planned) or not self._may_admit(planned):
                break

    def _may_admit(self, planned: Step) -> bool:
        has_room = len(self.running) < self._max_rows and planned.plan.budget_tokens > 0
        return has_room and self._sole is None and len(self.waiting) > 0

    def _plan_sole(self, stream: Stream, planned: Step) -> None:
        if stream.lease is not None:
            self._schedule(stream, planned)
            return
        for other in tuple(self.running):
            self._retract(other)
        self.prospects.loosen()
        self.cache.evict(self.cache.pool.total)
        self._admit(stream, planned)

    def stuck(self) -> Stream | None:
        """After a plan without rows: the stream that does not fit though it has all the memory."""
        sole = self._sole
        if sole is not None and sole.is_scheduled:
            return sole
        return next(chain(self.running, self.waiting), None)

    def _admit(self, stream: Stream, planned: Step) -> bool:
        step = planned.plan.step
        if self._ride(stream, planned):
            return True
        limit = 0 if stream.needs_prompt_logprobs else min(stream.target, len(stream.tokens) - 1)
        lease = self._open(stream, limit, step)
        if lease.cached_len >= stream.target:  # all it can do for now is in the cache already
            self.cache.release(lease)
            self.rest(stream)
            return True
        if not self._has_room(stream, lease):
            self.cache.release(lease)
            return False
        copies = self.cache.extend(lease, max(stream.target, lease.length), step)
        if copies is None:
            self.cache.release(lease)
            self._is_short = not planned.is_calm
            if not self.running and planned.is_calm:
                self._sole = stream
            return False
        planned.plan.add_copies(copies)
        self._enter(stream, lease)
        self._forecast.joined(stream, lease)
        self._schedule(stream, planned)
        return True

    def _ride(self, stream: Stream, planned: Step) -> bool:
        """The step computes all of the stream's tokens for another one: reads the logits there.
        So the children of a fork that begin by drawing compute the last token once."""
        if not planned.ends or stream.generation is None or stream.awaits_constraint:
            return False
        if stream.generation.budget <= 0 or stream.needs_prompt_logprobs:
            return False
        lease = self._open(stream, len(stream.tokens), planned.plan.step)
        row = planned.ends.get(lease.node)
        is_whole = lease.cached_len == len(stream.tokens)
        if row is None or not is_whole or not self._has_room(stream, lease):
            self.cache.release(lease)
            return False
        self._enter(stream, lease)
        self._forecast.joined(stream, lease)
        logit = row.logit + row.num_logits - 1
        self._add_row(planned, StreamRow(stream, row.step, row.end, row.end, logit, 1))
        return True

    def _open(self, stream: Stream, limit: int, step: int) -> Lease:
        lease = self.cache.open(
            stream.tokens, stream.namespace, limit, ready_by=step, owner=stream.program
        )
        assert not isinstance(lease, Pending), "nothing is pending beyond the step being planned"
        return lease

    def _has_room(self, stream: Stream, lease: Lease) -> bool:
        return not self.running or self._forecast.fits(stream, lease, self.running)

    def _enter(self, stream: Stream, lease: Lease) -> None:
        self.waiting.remove(stream)
        stream.queued = False
        self.running.append(stream)
        self._hold(stream, lease)

    def _hold(self, stream: Stream, lease: Lease) -> None:
        """Takes up a lease and counts what it saved: never what the stream itself computed
        before."""
        fresh = max(0, lease.cached_len - stream.covered)
        pending = num_pending(lease, self.cache.completed_step)
        same_step = min(fresh, pending)
        stream.counts.same_step += same_step
        stream.counts.reused += fresh - same_step
        stream.lease = lease
        self.prospects.back(stream)
        stream.computed = lease.cached_len - pending
        stream.scheduled = lease.cached_len
        stream.covered = max(stream.covered, stream.scheduled)

    def _schedule(self, stream: Stream, planned: Step) -> None:
        """Adds the stream's next rows to the step, as far as budget and pages go."""
        plan = planned.plan
        if plan.budget_tokens <= 0 or stream.lease is None:  # retracted for one before it
            return
        if stream.target - stream.scheduled > 1:
            self._match_again(stream, plan.step)
        due = num_due(stream, plan.step, self.limit_tokens)
        count = min(due, plan.budget_tokens)
        begin, end = stream.scheduled, stream.scheduled + count
        if not self._extend(stream, end, planned):
            return
        lease = stream.lease
        assert lease is not None
        completes = count == due and end >= len(stream.tokens)
        num_logits = int(completes and stream.pin is None)
        if stream.needs_prompt_logprobs:
            num_logits = count
        ids = due_ids(stream, plan.step, count)
        logit = plan.add_row(ids, begin, lease.page_table(), num_logits)
        row = StreamRow(stream, plan.step, begin, end, logit, num_logits)
        if end <= len(stream.tokens) and (count > 1 or not stream.is_decoding):
            self.cache.insert(lease, stream.tokens, end, plan.step)
            if completes and lease.inserted == end:
                planned.ends[lease.node] = row
        if completes and stream.choice is not None:
            self._add_choices(row, planned)
        self._add_row(planned, row)
        if stream is self._sole and end == stream.target and not row.is_short:
            self._sole = None

    def _add_row(self, planned: Step, row: StreamRow) -> None:
        planned.rows.append(row)
        self.waiting.served(row.stream, row.num_computed)
        row.stream.in_flight.append(row)
        row.stream.scheduled = row.end
        row.stream.covered = max(row.stream.covered, row.end)

    def _match_again(self, stream: Stream, step: int) -> None:
        """Another stream may have computed, or be about to compute, what comes next here."""
        lease = stream.lease
        assert lease is not None
        if stream.needs_prompt_logprobs or lease.inserted < stream.scheduled:
            return
        limit = min(stream.target, len(stream.tokens) - 1)
        cached = self.cache.cached_prefix(stream.tokens, stream.namespace, limit)
        if cached > stream.scheduled:
            self.cache.release(lease)
            self._hold(stream, self._open(stream, limit, step))

    def _extend(self, stream: Stream, length: int, planned: Step) -> bool:
        """Pages for positions below `length`, retracting younger streams if need be; False if the
        stream cannot go on in this step (it may have been retracted itself)."""
        assert stream.lease is not None
        while True:
            copies = self.cache.extend(stream.lease, length, planned.plan.step)
            if copies is not None:
                planned.plan.add_copies(copies)
                return True
            if not planned.is_calm:
                self._is_short = True
                return False
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
        """A running stream that is not in the step yet, the cheapest to compute again; None where
        only one runs."""
        if len(self.running) == 1:
            return None
        busy = {row.stream for row in planned.rows}
        return self._forecast.cheapest(stream for stream in self.running if stream not in busy)

    def _retract(self, stream: Stream) -> None:
        self.retractions += 1
        self.recompute(stream)

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
            return
        row.is_short = True
        self._is_short = not planned.is_calm
        row.is_hopeless = stream is self._sole
        if len(self.running) == 1:
            self._sole = stream

    def adopt(self, stream: Stream, branches: ChoiceBranches, winner: int, step: int) -> None:
        """The winner's computed tokens, which are in `stream.tokens` already, become the
        stream's. The branches are no more."""
        assert stream.lease is not None
        length = branches.conditional.adopt(self.cache, stream.lease, winner, step)
        if length is not None:
            stream.computed = stream.scheduled = length
            stream.covered = max(stream.covered, length)
        branches.free(self.cache, step)
        self._forecast.freed()

    # Afterwards ----------------------------------------------------------------------------------

    def launched(self, plan: StepPlan) -> None:
        attended = plan.num_attended if self.budget.has_target else 0
        self.budget.launched(plan.step, plan.num_tokens, attended)

    def retire(self, step: int) -> None:
        """The step has ended well."""
        self.pace.stepped(self.budget.collected(step))
        self.cache.retire(step)

    def failed(self, steps: Sequence[int]) -> None:
        """All steps that were launched and have not ended."""
        for step in steps:
            self.budget.failed(step)
        self.cache.retire(steps[-1])
