"""Where a stream's tokens came from adds up to what it has, and to what the model computed."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes.streams import engine, generate, text

from furcate.protocol.stream import Append, CancelStream, End, OpenStream, StreamNode
from furcate.runtime.testing import ContextModel

WORDS = st.sampled_from(["the same words again ", "the same", "x y z "])
TURNS = st.lists(st.tuples(WORDS, st.integers(1, 6)), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(TURNS, st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=6),
    st.sampled_from([1, 4, 16]),
    st.sampled_from([3, 16, 512]),
)
def test_reused_same_step_and_computed_are_all_but_the_last_token(
    family: list[tuple[list[tuple[str, int]], int, int]], page_size: int, budget: int
) -> None:
    model = ContextModel(end_ids=())
    eng = engine(model, page_size=page_size, num_pages=4000, budget_tokens=budget)
    lengths: list[list[int]] = []  # of each stream, after so many of its nodes
    for stream, (turns, parent, steps) in enumerate(family):
        inherited = 0
        if parent < stream:
            inherited = lengths[parent][2]
            eng.send(OpenStream(stream, 0, parent=parent, parent_nodes=2))
        else:
            eng.send(OpenStream(stream, 0))
        nodes: list[StreamNode] = []
        ends = [inherited]
        for words, count in turns:
            nodes += [text(words), generate(count)]
            ends += [ends[-1] + len(words), ends[-1] + len(words) + count]
        lengths.append(ends)
        eng.send(Append(stream, tuple(nodes)))
        for _ in range(steps):
            eng.step()
    eng.send(*(Append(stream, (End(),)) for stream in range(len(family))))
    eng.run()
    for stream, ends in enumerate(lengths):
        usage = eng.ended[stream].usage
        assert usage.reused + usage.same_step + usage.computed == ends[-1] - 1
        assert usage.prompt + usage.completion == ends[-1] - ends[0]
        assert usage.decoded == usage.completion
        nodes_done = [done.usage for done in eng.done(stream)]
        assert sum(each.computed for each in nodes_done) == usage.computed
        assert sum(each.reused for each in nodes_done) == usage.reused
        assert sum(each.same_step for each in nodes_done) == usage.same_step
    assert sum(end.usage.computed for end in eng.ended.values()) == model.num_tokens


@pytest.mark.parametrize("steps", [1, 3])
def test_a_cancelled_stream_accounts_for_what_was_computed_for_it(steps: int) -> None:
    model = ContextModel(end_ids=())
    eng = engine(model, budget_tokens=8)
    eng.send(OpenStream(1, 0), Append(1, (text("some words to read"), generate(20), End())))
    for _ in range(steps):
        eng.step()
    eng.send(CancelStream(1))
    eng.run()
    assert eng.ended[1].usage.computed == model.num_tokens > 0
