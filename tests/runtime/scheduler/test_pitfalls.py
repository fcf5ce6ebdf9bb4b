"""What schedulers of this kind have got wrong, one scene each, with a forward in flight.

Each scene ends with all memory given back, with the books checked after every step by the engine
itself, and with the cache's pages recomputed and compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes.streams import engine, generate, idle_pages, run, text

from furcate.protocol.stream import Append, CancelStream, Choose, End, OpenStream, StreamNode
from furcate.runtime.scheduler.canary import check_kv
from furcate.runtime.testing import ContextModel, StepEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

PROMPT = "a prompt that all of them begin with, some pages long. "
CHOICES = Choose((tuple(b"yes"), tuple(b"yesterday"), tuple(b"no")), 1)


def start(eng: StepEngine, stream: int, *nodes: StreamNode, parent: int | None = None) -> None:
    opened = OpenStream(stream, 0, parent, 0 if parent is None else 1)
    eng.send(opened, Append(stream, (*nodes, End())))


def alone(*nodes: StreamNode) -> list[tuple[int, ...]]:
    return [done.ids for done in run(engine(ContextModel(end_ids=())), *nodes)]


def ids_of(eng: StepEngine, stream: int) -> list[tuple[int, ...]]:
    return [done.ids for done in eng.done(stream)]


def settle(eng: StepEngine, num_pages: int) -> None:
    eng.run()
    check_kv(eng.scheduler.batcher.cache, eng.scheduler._executor)
    assert idle_pages(eng) == num_pages
    assert len({end.stream for end in eng.ended.values()}) == len(eng.ended)


@pytest.mark.parametrize("when", range(12))
@pytest.mark.parametrize("victim", [2, 3, 5])
def test_cancelling_one_of_many_forks_corrupts_none_of_the_others(when: int, victim: int) -> None:
    eng = engine(ContextModel(end_ids=()), page_size=4, budget_tokens=16, overlap=True)
    eng.send(OpenStream(1, 0), Append(1, (text(PROMPT),)))
    nodes = {stream: (text(f"{stream}: "), generate(6, seed=stream)) for stream in range(2, 6)}
    for stream, own in nodes.items():
        start(eng, stream, *own, parent=1)
    for _ in range(when):
        eng.step()
    eng.send(CancelStream(victim), CancelStream(victim))
    eng.send(Append(1, (End(),)))
    settle(eng, 256)
    for stream, own in nodes.items():
        if eng.ended[stream].code is None:
            assert ids_of(eng, stream) == alone(text(PROMPT), *own)


def test_pages_of_a_cancelled_stream_are_not_given_out_while_a_forward_writes_them() -> None:
    eng = engine(ContextModel(end_ids=()), num_pages=8, page_size=4, overlap=True)
    start(eng, 1, text("twelve bytes"), generate(8))
    eng.step()
    eng.step()
    eng.send(CancelStream(1))
    cache = eng.scheduler.batcher.cache
    assert cache.stats().fenced_pages > 0
    start(eng, 2, text("another text"), generate(8))
    settle(eng, 8)
    assert ids_of(eng, 2) == alone(text("another text"), generate(8))


@pytest.mark.parametrize("num_pages", [9, 10, 12, 16])
def test_streams_that_are_set_back_while_a_forward_runs_go_on_as_if_nothing_had_been(
    num_pages: int,
) -> None:
    eng = engine(ContextModel(end_ids=()), num_pages=num_pages, page_size=4, overlap=True)
    nodes = {stream: (text(f"text {stream}: "), generate(16, seed=stream)) for stream in range(5)}
    for stream, own in nodes.items():
        start(eng, stream, *own)
    settle(eng, num_pages)
    for stream, own in nodes.items():
        assert ids_of(eng, stream) == alone(*own)


def test_a_prompt_longer_than_a_step_is_not_admitted_again_and_again() -> None:
    eng = engine(ContextModel(end_ids=()), num_pages=40, budget_tokens=8, overlap=True)
    start(eng, 1, text("x" * 600), generate(2))
    start(eng, 2, text("y" * 600), generate(2))
    eng.run(max_steps=2 * 600 // 8 + 20)
    settle(eng, 40)
    assert eng.scheduler.batcher.retractions <= 1


def test_a_stream_that_can_never_fit_is_refused_at_once_and_holds_up_nobody() -> None:
    eng = engine(ContextModel(end_ids=()), num_pages=4, overlap=True)
    start(eng, 1, text("x" * 65), generate(2))
    start(eng, 2, text("a little"), generate(2))
    eng.step()
    assert eng.ended[1].code == "capacity"
    assert "65 tokens" in (eng.ended[1].message or "")
    assert "holds 64" in (eng.ended[1].message or "")
    settle(eng, 4)
    assert eng.ended[2].code is None


def test_what_was_generated_is_found_in_the_cache_by_whoever_sends_it_back() -> None:
    """A second turn that repeats the first: all of it but the last token, which the first turn drew
    and never read."""
    eng = engine(ContextModel(end_ids=()), overlap=True)
    (first,) = run(eng, text(PROMPT), generate(10))
    history = (*PROMPT.encode(), *first.ids)
    (second,) = run(eng, text(bytes(history).decode() + " And then?"), generate(3), stream=2)
    assert second.usage.reused == len(history) - 1
    assert second.usage.computed == len(" And then?") + 1 + 2


def test_a_stream_is_cancelled_by_its_own_name_only() -> None:
    eng = engine(ContextModel(end_ids=()), overlap=True)
    for stream in (1, 11, 111):
        start(eng, stream, text("once"), generate(4))
    eng.step()
    eng.send(CancelStream(1), CancelStream(7))
    settle(eng, 256)
    assert [eng.ended[stream].code for stream in (1, 11, 111)] == ["cancelled", None, None]


NODES = st.lists(
    st.one_of(
        st.builds(text, st.sampled_from(["one ", "two and a half ", PROMPT])),
        st.builds(generate, st.integers(0, 9)),
        st.just(CHOICES),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(NODES, min_size=1, max_size=6),
    st.integers(60, 90),
    st.sampled_from([1, 7, 64]),
    st.booleans(),
)
def test_every_step_computes_something_or_ends_something(
    streams: Sequence[Sequence[StreamNode]], num_pages: int, budget_tokens: int, overlap: bool
) -> None:
    """With memory for about two of them: neither set back for ever, nor admitted for nothing."""
    model = ContextModel(end_ids=())
    eng = engine(
        model, num_pages=num_pages, page_size=4, budget_tokens=budget_tokens, overlap=overlap
    )
    for stream, nodes in enumerate(streams):
        start(eng, stream, text("begin "), *nodes)
    idle_steps = 0
    while eng.scheduler.has_work:
        before = (model.num_tokens, len(eng.ended))
        eng.step()
        idle_steps = idle_steps + 1 if (model.num_tokens, len(eng.ended)) == before else 0
        assert idle_steps <= 2  # one to launch ahead, one to come to rest
    known = sum(end.usage.prompt + end.usage.completion for end in eng.ended.values())
    assert model.num_tokens <= 8 * known + 64  # set back, but not without end
    assert {end.code for end in eng.ended.values()} <= {None, "capacity"}
