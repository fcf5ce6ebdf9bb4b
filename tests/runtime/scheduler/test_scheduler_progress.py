"""An engine that says it has work gets somewhere with every step, and one that waits says so."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes.streams import END_ID, SlowCompiler, mislead

from furcate.protocol.constraint import Constraint
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import (
    Append,
    CancelStream,
    Choose,
    DefineConstraint,
    DropConstraint,
    End,
    EngineRequest,
    Extend,
    Generate,
    OpenStream,
    StreamNode,
)
from furcate.runtime.config import ScheduleConfig
from furcate.runtime.testing import ContextModel, StepEngine, make_scheduler

BODIES = ("ab{2}c", "[ab]{1,9}", "(", "x*")

WORDS = st.sampled_from([b"the same words again ", b"the same", b"x", b"a b c d e f g h"])
GENERATES = st.builds(
    lambda size, key, prompt, lp: Generate(
        Sampling(max_tokens=size, prompt_logprobs=prompt, logprobs=lp),
        1,
        (),
        (END_ID,),
        constraint=key,
        site=size % 2,
    ),
    st.integers(0, 7),
    st.sampled_from([None, None, 0, 1, 2, 3, 9]),
    st.sampled_from([None, None, 0, 2]),
    st.sampled_from([None, 0]),
)
CHOOSES = st.builds(
    lambda choices, both: Choose(
        tuple(map(tuple, choices)),
        1,
        "unconditional_likelihood_normalized" if both else "greedy_token_selection",
        unconditional=(256,),
    ),
    st.lists(st.sampled_from([b"yes", b"yesterday", b"no"]), min_size=1, unique=True),
    st.booleans(),
)
NODES = st.lists(
    st.one_of(st.builds(lambda w: Extend(tuple(w)), WORDS), GENERATES, CHOOSES), max_size=4
)


@st.composite
def requests(draw: st.DrawFn) -> list[EngineRequest]:
    """Families of streams and what befalls them, in an order that the front could send."""
    count = draw(st.integers(1, 5))
    sent: list[EngineRequest] = []
    for key, body in enumerate(BODIES):
        sent.append(DefineConstraint(key, Constraint(kind="regex", body=body)))
    late: list[EngineRequest] = []
    for stream in range(count):
        parent = draw(st.none() | st.integers(0, stream - 1)) if stream else None
        at = draw(st.integers(0, 2)) if parent else 0
        sent.append(OpenStream(stream, stream % 2, parent, at, priority=draw(st.integers(0, 1))))
        nodes: tuple[StreamNode, ...] = (Extend(tuple(draw(WORDS))), *draw(NODES))
        late.append(Append(stream, nodes))
        if draw(st.integers(0, 3)) == 0:
            late.append(CancelStream(stream))
    if draw(st.booleans()):
        late.append(DropConstraint(draw(st.integers(0, len(BODIES) - 1))))
    late = draw(st.permutations(late))
    return [*sent, *late, *(Append(stream, (End(),)) for stream in range(count))]


def drain(engine: StepEngine, model: ContextModel) -> None:
    """Runs until the engine says that there is nothing to do; each step must achieve something."""
    idle_steps = 0
    for _ in range(2000):
        if not engine.scheduler.has_work:
            return
        before = model.num_tokens
        events = engine.step()
        idle_steps = 0 if events or model.num_tokens > before else idle_steps + 1
        assert idle_steps <= 1, "the engine is busy with nothing"
    raise AssertionError("the engine computes and never gets done")


def check(
    sent: list[EngineRequest], num_pages: int, page_size: int, budget: int, data: st.DataObject
) -> None:
    compiler = SlowCompiler()
    model = ContextModel(max_context=200)
    config = ScheduleConfig(max_rows=4, budget_tokens=budget, check_invariants=True)
    engine = StepEngine(
        make_scheduler(
            model, num_pages=num_pages, page_size=page_size, config=config, constraints=compiler
        )
    )
    mislead(engine)
    for request in sent:
        engine.send(request)
        for _ in range(data.draw(st.integers(0, 2))):
            engine.step()
        if compiler.held and data.draw(st.integers(0, 3)) == 0:
            compiler.finish()
    while compiler.held:
        drain(engine, model)
        compiler.finish()
    drain(engine, model)
    assert not engine.scheduler.lifecycle.streams
    opened = {request.stream for request in sent if isinstance(request, OpenStream)}
    assert engine.ended.keys() == opened
    stats = engine.scheduler.batcher.cache.stats()
    assert (stats.leases, stats.private_pages, stats.tree_locked_pages) == (0, 0, 0)
    assert model.num_tokens == sum(end.usage.computed for end in engine.ended.values())


MEMORY = (st.integers(3, 40), st.sampled_from([1, 3, 4, 16]), st.sampled_from([1, 5, 64]))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(requests(), *MEMORY, st.data())
def test_whoever_has_work_makes_progress(
    sent: list[EngineRequest], num_pages: int, page_size: int, budget: int, data: st.DataObject
) -> None:
    check(sent, num_pages, page_size, budget, data)


@pytest.mark.exhaustive
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(requests(), *MEMORY, st.data())
def test_whoever_has_work_makes_progress_in_many_more_cases(
    sent: list[EngineRequest], num_pages: int, page_size: int, budget: int, data: st.DataObject
) -> None:
    check(sent, num_pages, page_size, budget, data)
