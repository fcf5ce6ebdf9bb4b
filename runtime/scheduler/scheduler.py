"""The scheduler: receives requests, plans a step, runs it, hands out what came of it.

One thread calls it. Front and tests talk to it with the messages of protocol.stream alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from furcate.protocol.stream import EngineHello, RawLogprob
from furcate.runtime.engine.executor import Draw, Score
from furcate.runtime.sample.batch import SampleRow
from furcate.runtime.sample.rng import uniform

from .batcher import Batcher, Step, StreamRow
from .lifecycle import Lifecycle
from .selection import decide

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from furcate.protocol.stream import EngineEvent, EngineReady, EngineRequest
    from furcate.runtime.config import ScheduleConfig
    from furcate.runtime.constrain.service import CompileService
    from furcate.runtime.engine.executor import Executor, StepResult
    from furcate.runtime.sample.batch import Alternatives, Sampled

    from .branches import Branches, ChoiceBranches
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
    ) -> None:
        self.batcher = Batcher(
            executor.num_pages, executor.page_size, config.max_rows, config.budget_tokens
        )
        self._events: list[EngineEvent] = []
        self.lifecycle = Lifecycle(
            self.batcher,
            constraints,
            table,
            executor.max_context,
            config.jump_forward,
            self._events.append,
        )
        self._executor = executor
        self._constraints = constraints
        self._ready = ready
        self._config = config
        self._step = 0

    def ready(self) -> EngineReady:
        return self._ready

    def handle(self, requests: Sequence[EngineRequest]) -> None:
        """Takes up requests; what they cause at once comes with the next step."""
        for request in requests:
            if isinstance(request, EngineHello):
                self._events.append(self._ready)  # its version is for the front to compare
            else:
                self.lifecycle.handle(request)

    @property
    def has_work(self) -> bool:
        """False: a step would do nothing until a request or the constraint service's wake-up."""
        return bool(self._events) or self.batcher.has_work or self.lifecycle.has_compiled

    def step(self) -> list[EngineEvent]:
        """Runs one forward at most and returns the events since the last step."""
        self.lifecycle.poll_constraints()
        if self.batcher.has_work:
            step = self.batcher.plan(self._step + 1)
            if step.rows:
                self._step += 1
                self._run(step)
            else:
                self._refuse_stuck()
        if self._config.check_invariants:
            self.check()
        events = self._events.copy()
        self._events.clear()
        return events

    def close(self) -> None:
        self._executor.close()
        self._constraints.close()

    def check(self) -> None:
        """Raises AssertionError unless all bookkeeping is consistent."""
        self.batcher.check(tuple(self.lifecycle.streams.values()))

    # A step --------------------------------------------------------------------------------------

    def _run(self, step: Step) -> None:
        scores = list(_scores(step.rows))
        try:
            free, masked = _split(_drawing(step.rows))
            draws = [self._draw(row) for row in free]
            seq = self._executor.submit(step.plan.batch(), draws, scores)
            self._executor.draw(seq, [self._draw(row) for row in masked])
            result = self._executor.collect(seq)
        except Exception as error:  # whatever the device raises costs this step's streams alone
            self._fail_step(step, error)
            return
        self.batcher.retire(step.plan.step)
        self._commit(step, [row.stream for row in (*free, *masked)], result)

    def _draw(self, row: StreamRow) -> Draw:
        """How to sample the token after the row's last. A mask is filled here: for rows that have
        one this is called while the forward runs."""
        return Draw(row.logit + row.num_logits - 1, self._sample_row(row.stream))

    def _sample_row(self, stream: Stream) -> SampleRow:
        active = stream.generation
        assert active is not None
        mask = None
        if active.matcher is not None:
            mask = np.zeros(-(-self._executor.vocab_size // 32), np.int32)
            if active.queue:
                mask.view(np.uint32)[active.queue[0] // 32] = 1 << (active.queue[0] % 32)
            else:
                active.matcher.fill_mask(mask)
        sampling = active.node.sampling
        return SampleRow(
            sampling=sampling,
            seed=active.node.seed,
            index=active.index,
            output_ids=active.ids,
            context_ids=stream.tokens,
            mask=mask,
            banned_ids=active.banned_ids,
            num_logprobs=sampling.logprobs,
        )

    def _commit(self, step: Step, drawing: Sequence[Stream], result: StepResult) -> None:
        drawn = dict(zip((stream.id for stream in drawing), result.sampled, strict=True))
        scores = iter(result.scores)
        for row in step.rows:
            stream = row.stream
            stream.computed = row.begin + row.count
            stream.covered = max(stream.covered, stream.computed)
            stream.counts.computed += row.count
            if stream.needs_prompt_logprobs and not _note_prompt_logprobs(row, scores):
                self._refuse_logits(stream)
            elif row.branches is not None:
                self._decide(row, row.branches, scores, step.plan.step)
            elif stream.choice is not None:
                self._retry_choice(row)
            elif stream.id in drawn:
                self._drawn(stream, drawn[stream.id])
            elif stream.computed == len(stream.tokens) and not stream.awaits_constraint:
                self.lifecycle.prefilled(stream)
            elif stream.computed >= stream.target:
                self.batcher.rest(stream)  # until its constraint is compiled

    def _drawn(self, stream: Stream, sampled: Sampled) -> None:
        if sampled.are_broken:
            self._refuse_logits(stream)
        else:
            self.lifecycle.drawn(stream, sampled.token_id, _raw(sampled))

    def _refuse_logits(self, stream: Stream) -> None:
        reason = "the model's logits are not numbers; its weights or its kernels are at fault"
        self.lifecycle.end(stream, "backend", reason)

    def _retry_choice(self, row: StreamRow) -> None:
        """A chunk before the choices, or there was no room for them in this step."""
        if row.is_hopeless:
            self.lifecycle.end(row.stream, "capacity", self._too_small("the choices"))
        elif row.is_short_of_room:
            self.batcher.recompute(row.stream)

    def _decide(
        self, row: StreamRow, branches: ChoiceBranches, scores: Iterator[Alternatives], step: int
    ) -> None:
        stream, node = row.stream, row.stream.choice
        assert node is not None
        num_tokens = branches.conditional.trie.num_tokens
        logprobs = _take_scores(branches.conditional, scores)
        stream.counts.computed += num_tokens
        unconditional = None
        if branches.unconditional is not None:
            unconditional = _take_scores(branches.unconditional, scores)
            stream.counts.computed += num_tokens + len(node.unconditional)
        if any(math.isnan(each) for line in (*logprobs, *(unconditional or ())) for each in line):
            branches.free(self.batcher.cache, step)
            self._refuse_logits(stream)
            return
        result = decide(
            node.method, logprobs, unconditional, node.temperature, uniform(node.seed, 0)
        )
        self.lifecycle.chosen(stream, result)
        self.batcher.adopt(stream, branches, result.winner, step)
        self.lifecycle.chose(stream)

    def _fail_step(self, step: Step, error: Exception) -> None:
        """Costs the streams of the step, and those that rely on what it should have computed."""
        lost = self.batcher.cache.drop_pending(step.plan.step)
        for row in step.rows:
            if row.branches is not None:
                row.branches.free(self.batcher.cache, step.plan.step)
        inside = {row.stream.id for row in step.rows}
        for stream in tuple(self.batcher.running):
            if stream.id in inside or stream.lease in lost:
                self.batcher.abandon(stream)
                self.lifecycle.end(stream, "backend", f"the forward pass failed: {error!r}")
        self.batcher.retire(step.plan.step)

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


def _drawing(rows: Sequence[StreamRow]) -> Iterator[StreamRow]:
    """The rows whose stream's last known token is in the step and wants another after it."""
    for row in rows:
        stream = row.stream
        active = stream.generation
        if active is None or stream.awaits_constraint or active.budget <= 0:
            continue
        if row.begin + row.count == len(stream.tokens):
            yield row


def _split(rows: Iterator[StreamRow]) -> tuple[list[StreamRow], list[StreamRow]]:
    """Those that may be drawn without the host, and those that wait for a mask."""
    free: list[StreamRow] = []
    masked: list[StreamRow] = []
    for row in rows:
        active = row.stream.generation
        assert active is not None
        (free if active.matcher is None else masked).append(row)
    return free, masked


def _scores(rows: Sequence[StreamRow]) -> Iterator[Score]:
    """The log-probabilities that the rows need, in the order in which `_commit` takes them."""
    for row in rows:
        stream = row.stream
        if stream.needs_prompt_logprobs:
            for at in _prompt_places(row):
                logit = row.logit + at - 1 - row.begin
                yield Score(logit, stream.tokens[at], stream.prompt_top)
        if row.branches is not None:
            assert stream.choice is not None
            for branches in (row.branches.conditional, row.branches.unconditional):
                if branches is not None:
                    yield from _choice_scores(branches, stream.choice.choices)


def _prompt_places(row: StreamRow) -> range:
    """Positions of the prompt whose log-probability the row's logits tell for the first time."""
    active = row.stream.generation
    assert active is not None
    known = max(1, len(row.stream.prompt_logprobs))
    return range(max(known, row.begin + 1), min(row.begin + row.count + 1, active.start))


def _note_prompt_logprobs(row: StreamRow, scores: Iterator[Alternatives]) -> bool:
    """False if one of them is not a number."""
    stream = row.stream
    places = _prompt_places(row)
    if not stream.prompt_logprobs:
        stream.prompt_logprobs.append(RawLogprob(None, stream.tokens[0]))
    for at in places:
        stream.prompt_logprobs.append(_raw_logprob(next(scores), stream.tokens[at]))
    found = stream.prompt_logprobs[places.start :]
    return not any(each.logprob is not None and math.isnan(each.logprob) for each in found)


def _choice_scores(branches: Branches, choices: Sequence[tuple[int, ...]]) -> Iterator[Score]:
    for ids, places in zip(choices, branches.trie.places, strict=True):
        for token_id, place in zip(ids, places, strict=True):
            first = branches.root if place.segment < 0 else branches.logits[place.segment]
            yield Score(first + place.offset, token_id)


def _take_scores(branches: Branches, scores: Iterator[Alternatives]) -> list[list[float]]:
    return [[next(scores).logprob for _ in places] for places in branches.trie.places]


def _raw(sampled: Sampled) -> RawLogprob | None:
    if sampled.logprobs is None or sampled.token_id is None:
        return None
    return _raw_logprob(sampled.logprobs, sampled.token_id)


def _raw_logprob(found: Alternatives, token_id: int) -> RawLogprob:
    return RawLogprob(found.logprob, token_id, tuple((lp, alt) for alt, lp in found.top))
