"""A program with loops and switches in the graph says what the same program says as Python that
reads each value: the same texts, drawn with the same seeds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.flow_programs import eagerly, flow_programs, in_the_graph
from tests.fakes.in_process import context_session

import furcate as fc


@pytest.fixture(scope="module")
def engine():
    with fc.Engine("test:context", kv_bytes="1MiB") as session:
        yield session


@pytest.fixture(scope="module")
def checked_engine():
    with context_session(num_pages=256) as session:
        yield session


def _compare(engine, program, seed: int) -> None:
    statements, known = program

    @fc.function(graph="require")
    def graph(s):
        s += "begin "
        in_the_graph(s, statements)
        s += fc.gen("last", max_tokens=3, ignore_eos=True)

    @fc.function
    def eager(s):
        s += "begin "
        eagerly(s, statements)
        s += fc.gen("last", max_tokens=3, ignore_eos=True)

    one = graph.run(backend=engine, seed=seed)
    other = eager.run(backend=engine, seed=seed)
    assert one.text() == other.text()
    assert {name: one[name] for name in known} == {name: other[name] for name in known}
    assert one["last"] == other["last"]
    assert one.usage.completion == other.usage.completion


@settings(max_examples=50, deadline=None)
@given(flow_programs(), st.integers(0, 99))
def test_in_the_graph_or_in_python_a_program_says_the_same(engine, program, seed) -> None:
    _compare(engine, program, seed)


@settings(max_examples=8, deadline=None)
@given(flow_programs(), st.integers(0, 99))
def test_also_with_a_check_of_the_engine_at_every_step(checked_engine, program, seed) -> None:
    _compare(checked_engine, program, seed)


@pytest.mark.exhaustive
@settings(max_examples=500, deadline=None)
@given(flow_programs(), st.integers(0, 99))
def test_many_programs_say_the_same_in_the_graph_and_in_python(engine, program, seed) -> None:
    _compare(engine, program, seed)
