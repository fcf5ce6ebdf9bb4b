"""The scheduler: receives requests, plans steps, launches and collects them, hands out what came.

A step is planned and launched while the one before it runs; what that one drew is committed while
its successor runs. One thread calls it. Front and tests talk to it with the messages of
protocol.stream alone.
"""

from __future__ import annotations

import math
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from furcate.protocol.stream import AskEngine, EngineFacts, EngineHello
from furcate.runtime.cache import KVCache
from furcate.runtime.clock import MonotonicClock
from furcate.runtime.sample.rng import uniform

from .batcher import Batcher
from .check import check_batcher
from .draws import early_draws, late_draws
from .facts import facts_of
from .lifecycle import Lifecycle
from .masks import InlineMasks
from .scores import ask_scores, choice_logprobs, drawn_logprob, note_prompt_logprobs
from .selection import decide
from .step import Flights, NoLog

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from furcate.protocol.stream import EngineEvent, EngineReady, EngineRequest
    from furcate.runtime.cache import Eviction
    from furcate.runtime.clock import Clock
    from furcate.runtime.config import ScheduleConfig
    from furcate.runtime.constrain.service import CompileService
    from furcate.runtime.engine.executor import Executor, StepResult
    from furcate.runtime.sample.batch import Alternatives, Sampled

    from .branches import ChoiceBranches
    from .masks import MaskFiller
    from .step import LaunchLog, Step, StreamRow
    from .stream import Stream

__all__ = ["Scheduler"]


class Scheduler:
    """Streams in, tokens out. `table[id]` are the bytes of token id; control tokens have none."""

    def __init__(
        self,
        *,
        executor: Executor,
        constraints: CompileService,
        table: Sequence[bytes],
        ready: EngineReady,
        config: ScheduleConfig,
        eviction: Eviction = "next-use",
        clock: Clock | None = None,
        masks: MaskFiller | None = None,
        launch_log: LaunchLog | None = None,
    ) -> None:
        clock = clock or MonotonicClock()
        cache = KVCache(executor.num_pages, executor.page_size, eviction)
        self.batcher = Batcher(cache, executor.max_context, config, clock)
        self._events: list[EngineEvent] = []
        self.lifecycle = Lifecycle(
            self.batcher,
            constraints,
            table,
            executor.max_context,
            config.jump_forward,
            clock,
            self._events.append,
        )
        self._executor = executor
        self._constraints = constraints
        self._masks = masks or InlineMasks(executor.vocab_size, clock)
        self._launch_log = launch_log or NoLog()
        self._ready = ready
        self._checks = config.check_invariants
        self._num_ahead = int(config.overlap and executor.is_asynchronous)
        self._flights = Flights()
        self._step = 0

    def ready(self) -> EngineReady:
        return self._ready

    def handle(self, requests: Sequence[EngineRequest]) -> None:
        """Takes up requests; what they cause at once comes with the next step."""
        for request in requests:
            if isinstance(request, EngineHello):
                self._events.append(self._ready)  # its version is for the front to compare
            elif isinstance(request, AskEngine):
                self._answer(request)
            else:
                self.lifecycle.handle(request)

    def _answer(self, ask: AskEngine) -> None:
        if ask.flush_cache:
            self.batcher.flush()
        self._events.append(EngineFacts(ask.number, facts_of(self.batcher, self._step)))

    @property
    def has_work(self) -> bool:
        """False: a step would do nothing until a request or the constraint service's wake-up."""
        is_running = self.batcher.has_work or len(self._flights) > 0
        return bool(self._events) or is_running or self.lifecycle.has_compiled

    def step(self) -> list[EngineEvent]:
        """Launches one forward at most, collects one at most, and returns the events since the last
        step."""
        self.batcher.prospects.expire()
        self.lifecycle.poll_constraints()
        self._ask_late_draws()
        num_ahead = self._num_ahead if self._launch() else 0
        if len(self._flights) > num_ahead:
            self._ask_late_draws()
            self._collect()
        if self._checks:
            self.check()
        events = self._events.copy()
        self._events.clear()
        return events

    def close(self) -> None:
        self._executor.close()
        self._masks.close()
        self._launch_log.close()
        self._constraints.close()

    def check(self) -> None:
        """Raises AssertionError unless all bookkeeping is consistent."""
        check_batcher(self.batcher, tuple(self.lifecycle.streams.values()))

    # A step --------------------------------------------------------------------------------------

    def _launch(self) -> bool:
        """Plans the next step and starts its forward; False if there is none to start now."""
        is_calm = len(self._flights) == 0
        if not self.batcher.has_work or (self.batcher.needs_calm and not is_calm):
            return False
        step = self.batcher.plan(self._step + 1, is_calm)
        if not step.rows:
            if is_calm:
                self._refuse_stuck()
            return False
        self._step += 1
        self.batcher.launched(step.plan)
        self._launch_log.launched(self._step, [row.stream.id for row in step.rows])
        try:
            step.seq = self._executor.submit(step.plan.batch(), early_draws(step), ask_scores(step))
        except Exception as error:  # whatever the device raises costs this step's streams alone
            while len(self._flights):
                self._collect()
            self._fail([step], error)
            return False
        for row in step.rows:
            row.stream.counts.computed += row.num_computed
        self._flights.add(step)
        return True

    def _ask_late_draws(self) -> None:
        """For the step in flight, once its predecessors are all committed."""
        step = self._flights.only
        if step is None or step.is_complete:
            return
        step.is_complete = True
        draws, late = late_draws(step, self._masks, lambda: self._executor.is_done(step.seq))
        if draws:
            self._executor.draw(step.seq, draws)
        self.lifecycle.masks_are_late(late)

    def _collect(self) -> None:
        step = self._flights.take()
        try:
            result = self._executor.collect(step.seq)
        except Exception as error:
            later = self._flights.take_all()
            for each in later:  # they have read what this one did not write
                with suppress(Exception):
                    self._executor.collect(each.seq)
            self._fail([step, *later], error)
            return
        self.batcher.retire(step.plan.step)
        for row in step.rows:
            if not row.is_void:
                self._commit(row, result)
            elif row.branches is not None:
                row.branches.free(self.batcher.cache, row.step)
        self._launch_log.landed(step.plan.step)

    def _commit(self, row: StreamRow, result: StepResult) -> None:
        stream = row.stream
        stream.in_flight.remove(row)
        stream.computed = max(stream.computed, row.end)
        active = stream.generation
        scores = islice(result.scores, row.first_score, None)
        if stream.needs_prompt_logprobs and not note_prompt_logprobs(row, scores):
            self._refuse_logits(stream)
        elif row.branches is not None:
            self._decide(row, row.branches, scores)
        elif row.is_hopeless:
            self.lifecycle.end(stream, "capacity", self._too_small("the choices"))
        elif row.is_short:
            self.batcher.recompute(stream)
        elif stream.pin is not None:
            self.lifecycle.pinned(stream)
        elif row.draw is not None and row.generation is active:
            self._drawn(stream, result.sampled[row.draw])
        elif active is not None and active.budget <= 0 and stream.computed == len(stream.tokens):
            self.lifecycle.prefilled(stream)
        self.batcher.settle(stream)

    def _drawn(self, stream: Stream, sampled: Sampled) -> None:
        if sampled.are_broken:
            self._refuse_logits(stream)
        else:
            self.lifecycle.drawn(stream, sampled.token_id, drawn_logprob(sampled))

    def _decide(
        self, row: StreamRow, branches: ChoiceBranches, scores: Iterator[Alternatives]
    ) -> None:
        stream, node = row.stream, row.stream.choice
        assert node is not None
        logprobs = choice_logprobs(branches.conditional, scores)
        unconditional = None
        if branches.unconditional is not None:
            unconditional = choice_logprobs(branches.unconditional, scores)
        if any(math.isnan(each) for line in (*logprobs, *(unconditional or ())) for each in line):
            branches.free(self.batcher.cache, row.step)
            self._refuse_logits(stream)
            return
        result = decide(
            node.method, logprobs, unconditional, node.temperature, uniform(node.seed, 0)
        )
        self.lifecycle.chosen(stream, result)
        self.batcher.adopt(stream, branches, result.winner, row.step)
        self.lifecycle.chose(stream)

    # What goes wrong -----------------------------------------------------------------------------

    def _fail(self, steps: Sequence[Step], error: Exception) -> None:
        """The forward of the first step has failed, which costs its streams. Those of later steps,
        and those that rely on what either should have computed, begin anew."""
        cache = self.batcher.cache
        last = steps[-1].plan.step
        lost = [lease for step in steps for lease in cache.drop_pending(step.plan.step, last)]
        failed = [row.stream for row in steps[0].rows if not row.is_void]
        if steps[0].seq:
            for row in steps[0].rows:
                row.stream.counts.computed -= row.num_computed
        for row in (row for step in steps for row in step.rows):
            if row.branches is not None:
                row.branches.free(cache, last)
        for stream in tuple(self.batcher.running):
            if any(stream is each for each in failed):
                self.batcher.abandon(stream)
                self.lifecycle.end(stream, "backend", f"the forward pass failed: {error!r}")
            elif stream.in_flight or stream.lease in lost:
                self.batcher.abandon(stream)
                self.batcher.settle(stream)
        self.batcher.failed([step.plan.step for step in steps])
        for step in steps:
            self._launch_log.landed(step.plan.step)

    def _refuse_logits(self, stream: Stream) -> None:
        reason = "the model's logits are not numbers; its weights or its kernels are at fault"
        self.lifecycle.end(stream, "backend", reason)

    def _refuse_stuck(self) -> None:
        stream = self.batcher.stuck()
        if stream is not None:
            self.lifecycle.end(stream, "capacity", self._too_small(f"{len(stream.tokens)} tokens"))

    def _too_small(self, what: str) -> str:
        cache = self.batcher.cache
        return (
            f"the KV cache of {cache.pool.total} pages of {cache.page_size} tokens has no room for "
            f"{what}; give it more with --kv-bytes"
        )
