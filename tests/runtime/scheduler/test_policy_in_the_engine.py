"""Policies, admission and budgets where they meet: streams on an engine driven by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.fakes.streams import END_ID, generate, mislead, text

from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import Append, End, Generate, Hint, OpenStream, StreamEnded
from furcate.runtime.config import ScheduleConfig
from furcate.runtime.testing import (
    ContextModel,
    ManualClock,
    ScriptedModel,
    StepEngine,
    make_scheduler,
)

if TYPE_CHECKING:
    import torch

    from furcate.runtime.engine.batch import ForwardBatch, Model


def engine(
    config: ScheduleConfig,
    *,
    model: Model | None = None,
    num_pages: int = 256,
    clock: ManualClock | None = None,
) -> StepEngine:
    model = model or ContextModel(end_ids=())
    return StepEngine(make_scheduler(model, num_pages=num_pages, config=config, clock=clock))


def one_by_one(budget_tokens: int = 512) -> ScheduleConfig:
    return ScheduleConfig(max_rows=1, budget_tokens=budget_tokens, check_invariants=True)


def start(eng: StepEngine, opening: OpenStream, num_tokens: int = 4, words: str = "") -> None:
    nodes = (text(words or f"stream {opening.stream}"), generate(num_tokens), End())
    eng.send(opening, Append(opening.stream, nodes))


def ends(eng: StepEngine) -> list[int]:
    return [event.stream for event in eng.events if isinstance(event, StreamEnded)]


def test_streams_end_in_the_order_of_their_priority() -> None:
    eng = engine(one_by_one())
    for stream, priority in enumerate((0, -1, 3, 0)):
        start(eng, OpenStream(stream, stream, priority=priority))
    eng.run()
    assert ends(eng) == [2, 0, 3, 1]


def test_a_stream_that_would_miss_its_deadline_goes_first() -> None:
    clock = ManualClock()
    eng = engine(one_by_one(), model=TimedModel(clock), clock=clock)
    start(eng, OpenStream(1, 1))
    eng.step()
    start(eng, OpenStream(2, 2))
    start(eng, OpenStream(3, 3, deadline_s=10_000.0))
    start(eng, OpenStream(4, 4, deadline_s=0.05))
    eng.run()
    assert ends(eng) == [1, 4, 2, 3]


def test_a_tenant_with_few_streams_has_as_much_as_one_with_many() -> None:
    eng = engine(one_by_one())
    for stream in range(20):
        start(eng, OpenStream(stream, stream, namespace="many"))
    for stream in range(20, 24):
        start(eng, OpenStream(stream, stream, namespace="few"))
    eng.run()
    assert sum(stream >= 20 for stream in ends(eng)[:9]) == 4


def test_a_hint_moves_a_stream_that_waits() -> None:
    eng = engine(one_by_one())
    for stream in range(4):
        start(eng, OpenStream(stream, 1))
    eng.step()
    eng.send(Hint(3, path=2), Hint(2, num_waiting=1))
    eng.run()
    assert ends(eng) == [0, 3, 2, 1]


def test_children_of_a_fork_are_let_in_together() -> None:
    config = ScheduleConfig(max_rows=3, check_invariants=True)
    eng = engine(config)
    for parent in (1, 2):
        eng.send(OpenStream(parent, parent), Append(parent, (text("a long beginning " * 20),)))
    for child in range(10, 16):
        start(eng, OpenStream(child, 1 + child % 2, 1 + child % 2, 1), words="!")
    eng.send(Append(1, (End(),)), Append(2, (End(),)))
    eng.run()
    (first, second) = ends(eng)[2:5], ends(eng)[5:8]
    assert [child % 2 for child in first] == [0, 0, 0]
    assert [child % 2 for child in second] == [1, 1, 1]


@pytest.mark.parametrize("num_pages", range(5, 25))
def test_outputs_of_known_length_are_never_set_back(num_pages: int) -> None:
    eng = engine(ScheduleConfig(check_invariants=True), num_pages=num_pages)
    for stream in range(12):
        sampling = Sampling(max_tokens=10 + 3 * stream, temperature=0.0)
        nodes = (text(f"{stream} and more"), Generate(sampling, 0), End())
        eng.send(OpenStream(stream, stream), Append(stream, nodes))
    eng.run()
    assert eng.scheduler.batcher.retractions == 0
    assert {end.code for end in eng.ended.values()} == {None}


def test_history_lets_in_more_streams_than_the_longest_possible_outputs_would() -> None:
    """Outputs of ten tokens where a thousand are allowed, in memory for thirteen hundred."""
    model = ScriptedModel(lambda ids: END_ID if len(ids) % 20 >= 18 else ord("a"))
    eng = engine(ScheduleConfig(check_invariants=True), model=model, num_pages=80)
    most = 0
    for stream in range(100):
        nodes = (text("8 bytes!"), generate(1000, site=1), End())
        eng.send(OpenStream(stream, stream), Append(stream, nodes))
    while eng.scheduler.has_work:
        eng.step()
        most = max(most, len(eng.scheduler.batcher.running))
    assert most > 30
    assert eng.scheduler.batcher.retractions == 0


def test_who_gives_way_is_the_cheapest_of_the_lowest_priority() -> None:
    eng = engine(ScheduleConfig(check_invariants=True, budget_tokens=200), model=None, num_pages=16)
    mislead(eng)
    words = {1: "a" * 60, 2: "b" * 20, 3: "c" * 40, 4: "d" * 30}
    for stream, word in words.items():
        nodes = (text(word), generate(60, site=1), End())
        opening = OpenStream(stream, stream, priority=int(stream == 2))
        eng.send(opening, Append(stream, nodes))
    while not eng.scheduler.batcher.retractions:
        eng.step()
    batcher = eng.scheduler.batcher
    assert {stream.id for stream in batcher.waiting} == {4}
    eng.run()
    assert {end.code for end in eng.ended.values()} == {None}


class TimedModel(ContextModel):
    """A step takes a millisecond, and a tenth for each token."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(end_ids=())
        self._clock = clock
        self.steps: list[tuple[float, bool]] = []  # milliseconds, and whether a row decodes

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        took = 1.0 + 0.1 * batch.num_tokens
        self._clock.advance(took / 1000)
        is_decoding = any(batch.row_starts[1:] - batch.row_starts[:-1] == 1)
        self.steps.append((took, is_decoding))
        return super().forward(batch)


@pytest.mark.parametrize("itl_ms", [0.0, 10.0])
def test_while_somebody_decodes_prompts_are_cut_to_the_target_for_a_step(itl_ms: float) -> None:
    clock = ManualClock()
    model = TimedModel(clock)
    config = ScheduleConfig(itl_ms=itl_ms, check_invariants=True)
    eng = engine(config, model=model, clock=clock)
    start(eng, OpenStream(0, 0), num_tokens=400)
    for stream in range(1, 4):  # to learn from
        start(eng, OpenStream(stream, stream), words=f"{stream}" * 60 * stream)
        for _ in range(5):
            eng.step()
    model.steps.clear()
    start(eng, OpenStream(9, 9), words="x" * 900)
    eng.run()
    longest = max(took for took, is_decoding in model.steps if is_decoding)
    assert longest <= 10.5 if itl_ms else longest > 50
    assert {end.code for end in eng.ended.values()} == {None}
