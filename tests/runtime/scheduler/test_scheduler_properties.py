"""Whatever happens around a stream, its tokens are those that it has alone.

Random trees of streams, cut into messages at random, interleaved with steps and cancellations,
under random page sizes, budgets and amounts of memory. The context model reads every page it is
given, so that a wrong page, slot, order or length anywhere changes some stream's output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes.streams import mislead

from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import (
    Append,
    CancelStream,
    Choose,
    End,
    EngineRequest,
    Extend,
    Generate,
    OpenStream,
    StreamNode,
)
from furcate.runtime.config import ScheduleConfig
from furcate.runtime.scheduler.canary import check_kv
from furcate.runtime.testing import ContextModel, StepEngine, make_scheduler

if TYPE_CHECKING:
    import torch

    from furcate.runtime.engine.batch import ForwardBatch

END_ID = 258

WORDS = st.sampled_from(
    [b"the same words again ", b"the same", b"x", b"other ", b"a b c d e f g h"]
)
EXTENDS = st.builds(lambda word: Extend(tuple(word)), WORDS)
GENERATES = st.builds(
    lambda size, warm, seed, stop, prompt: Generate(
        Sampling(max_tokens=size, temperature=warm, prompt_logprobs=prompt),
        seed,
        (stop,) if stop else (),
        (END_ID,),
        report=bool(seed % 2),
        site=seed % 2,
    ),
    st.integers(0, 6),
    st.sampled_from([0.0, 1.0]),
    st.integers(0, 3),
    st.sampled_from([b"", b"a", b"e "]),
    st.sampled_from([None, None, None, 0]),
)
CHOICES = st.lists(
    st.sampled_from([b"yes", b"yesterday", b"no", b"n", b"x"]), min_size=1, max_size=4, unique=True
)
CHOOSES = st.builds(
    lambda choices, seed, warm: Choose(tuple(map(tuple, choices)), seed, temperature=warm),
    CHOICES,
    st.integers(0, 3),
    st.sampled_from([0.0, 1.0]),
)
NODES = st.lists(st.one_of(EXTENDS, GENERATES, CHOOSES), max_size=4)


def size_of(node: StreamNode) -> int:
    match node:
        case Extend(ids=ids):
            return len(ids)
        case Generate(sampling=sampling):
            return sampling.max_tokens
        case Choose(choices=choices):
            return max(map(len, choices))
    return 0


@dataclass(frozen=True)
class Plan:
    """Stream k forks from stream `parents[k][0]` after `parents[k][1]` nodes, or from nothing."""

    nodes: tuple[tuple[StreamNode, ...], ...]
    parents: tuple[tuple[int, int] | None, ...]

    def flat(self, stream: int) -> tuple[StreamNode, ...]:
        """The nodes of the stream with those of its ancestors before them."""
        parent = self.parents[stream]
        before = () if parent is None else self.flat(parent[0])[: self.depth(parent)]
        return before + self.nodes[stream]

    def depth(self, parent: tuple[int, int]) -> int:
        return self.own_start(parent[0]) + parent[1]

    @property
    def longest(self) -> int:
        """Tokens that the longest stream may come to have."""
        return max(sum(map(size_of, self.flat(stream))) for stream in range(len(self.nodes)))

    def own_start(self, stream: int) -> int:
        return len(self.flat(stream)) - len(self.nodes[stream])


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    nodes = [(Extend(tuple(draw(WORDS))), *draw(NODES)) for _ in range(draw(st.integers(1, 5)))]
    parents: list[tuple[int, int] | None] = [None]
    for stream in range(1, len(nodes)):
        if draw(st.booleans()):
            parent = draw(st.integers(0, stream - 1))
            parents.append((parent, draw(st.integers(0, len(nodes[parent])))))
        else:
            parents.append(None)
    return Plan(tuple(nodes), tuple(parents))


@st.composite
def messages(draw: st.DrawFn, plan: Plan) -> list[EngineRequest]:
    """The plan as requests: streams opened before their parents end, nodes in random pieces."""
    queues: list[list[EngineRequest]] = []
    for stream, nodes in enumerate(plan.nodes):
        pieces: list[EngineRequest] = []
        rest = list(nodes)
        while rest:
            size = draw(st.integers(1, len(rest)))
            pieces.append(Append(stream, tuple(rest[:size])))
            rest = rest[size:]
        queues.append(pieces)
    opens: list[EngineRequest] = []
    for stream, parent in enumerate(plan.parents):
        place = (None, 0) if parent is None else parent
        opens.append(OpenStream(stream, 0, place[0], place[1], draw(st.integers(-1, 1))))
    mixed = opens
    while any(queues):
        queue = draw(st.sampled_from([queue for queue in queues if queue]))
        mixed.append(queue.pop(0))
    return [*mixed, *(Append(stream, (End(),)) for stream in range(len(plan.nodes)))]


def outputs(engine: StepEngine, stream: int) -> list[object]:
    return [
        (done.ids, done.finish, done.matched, done.prompt_logprobs, done.choice)
        for done in engine.done(stream)
    ]


def alone(plan: Plan, stream: int) -> list[object]:
    engine = StepEngine(make_scheduler(ContextModel()))
    nodes = plan.flat(stream)
    engine.send(OpenStream(stream, 0), Append(stream, (*nodes, End())))
    engine.run()
    assert engine.ended[stream].code is None
    inherited = nodes[: plan.own_start(stream)]
    return outputs(engine, stream)[sum(not isinstance(node, Extend) for node in inherited) :]


CONFIGS = st.tuples(
    st.sampled_from([1, 4, 16]),
    st.sampled_from([0, 16, 4096]),  # tokens of memory more than the longest stream needs
    st.integers(1, 8),
    st.sampled_from([1, 5, 16, 512]),
    st.booleans(),  # overlap
)


POLICIES: st.SearchStrategy[Literal["program", "fcfs", "longest-prefix"]] = st.sampled_from(
    ["program", "fcfs", "longest-prefix"]
)


def room_for_choices(page_size: int) -> int:
    """Pages for the tries of CHOICES behind a text that ends inside a page: each of the parts "n",
    "o", "ye", "s" and "terda" may begin inside one."""
    return sum(-(-(count + page_size - 1) // page_size) for count in (1, 1, 2, 1, 5))


class FailsAt(ContextModel):
    """Writes its pages and then fails, in the forwards of these numbers."""

    def __init__(self, failing: frozenset[int]) -> None:
        super().__init__()
        self._failing = failing

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        logits = super().forward(batch)
        if self.num_forwards in self._failing:
            self.num_tokens -= batch.num_tokens  # nobody is told of what was lost
            raise MemoryError("no more")
        return logits


def check(
    plan: Plan,
    config: tuple[int, int, int, int, bool],
    data: st.DataObject,
    cancelled: frozenset[int] = frozenset(),
    failing: frozenset[int] = frozenset(),
) -> None:
    page_size, spare, max_rows, budget, overlap = config
    num_pages = -(-(plan.longest + spare) // page_size) + room_for_choices(page_size)
    model = FailsAt(failing)
    engine = StepEngine(
        make_scheduler(
            model,
            page_size=page_size,
            num_pages=num_pages,
            config=ScheduleConfig(
                max_rows=max_rows,
                budget_tokens=budget,
                policy=data.draw(POLICIES),
                check_invariants=True,
            ),
            overlap=overlap,
        )
    )
    mislead(engine)
    for message in data.draw(messages(plan)):
        engine.send(message)
        for _ in range(data.draw(st.integers(0, 2))):
            engine.step()
    for stream in sorted(cancelled):
        engine.send(CancelStream(stream))
        engine.step()
    engine.run()
    computed = model.num_tokens
    if not failing:
        check_kv(engine.scheduler.batcher.cache, engine.scheduler._executor)
    model.num_tokens = computed
    stats = engine.scheduler.batcher.cache.stats()
    assert stats.leases == 0
    assert stats.private_pages == 0
    assert sorted(engine.ended) == list(range(len(plan.nodes)))
    if not (overlap and failing):
        assert model.num_tokens == sum(end.usage.computed for end in engine.ended.values())
    for stream in range(len(plan.nodes)):
        code = engine.ended[stream].code
        if code is None:
            assert outputs(engine, stream) == alone(plan, stream)
        else:
            reasons = {"cancelled"} if cancelled else set()
            reasons |= {"backend", "upstream"} if failing else set()
            assert code in reasons, f"stream {stream}: {engine.ended[stream].message}"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(plans(), CONFIGS, st.data())
def test_streams_together_say_what_they_say_alone(
    plan: Plan, config: tuple[int, int, int, int, bool], data: st.DataObject
) -> None:
    check(plan, config, data)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(plans(), CONFIGS, st.data())
def test_a_cancellation_changes_nothing_for_the_others(
    plan: Plan, config: tuple[int, int, int, int, bool], data: st.DataObject
) -> None:
    cancelled = data.draw(st.frozensets(st.integers(0, len(plan.nodes) - 1), min_size=1))
    check(plan, config, data, cancelled)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(plans(), CONFIGS, st.data())
def test_a_failing_forward_changes_nothing_for_those_who_were_not_in_it(
    plan: Plan, config: tuple[int, int, int, int, bool], data: st.DataObject
) -> None:
    failing = data.draw(st.frozensets(st.integers(1, 12), min_size=1, max_size=4))
    check(plan, config, data, failing=failing)


@pytest.mark.exhaustive
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(plans(), CONFIGS, st.data())
def test_many_more_plans(
    plan: Plan, config: tuple[int, int, int, int, bool], data: st.DataObject
) -> None:
    cancelled = data.draw(st.frozensets(st.integers(0, len(plan.nodes) - 1), max_size=1))
    failing = data.draw(st.frozensets(st.integers(1, 40), max_size=2))
    check(plan, config, data, cancelled, failing)
