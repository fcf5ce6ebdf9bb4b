"""Well-formed messages in any order and with any references harm neither front nor neighbour."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.front_driver import Driver

from furcate.protocol import graph, message
from furcate.protocol.constraint import Constraint
from furcate.protocol.sampling import Sampling

SMALL = st.integers(0, 3)
BRANCHES = st.lists(SMALL, max_size=3).map(tuple)
WORDS = st.sampled_from(["", "a", "é", "<|im_end|>", "\ud800", "user"])
OPERANDS = st.one_of(st.builds(graph.ValueRef, SMALL), WORDS, st.integers(-2, 2), st.none())
SAMPLINGS = st.builds(
    Sampling,
    max_tokens=st.integers(-1, 3),
    n=st.integers(0, 3),
    stop=st.lists(WORDS, max_size=2).map(tuple),
    stop_regex=st.lists(st.sampled_from(["a", "(", "a*"]), max_size=2).map(tuple),
    temperature=st.sampled_from([0.0, -1.0, float("nan")]),
)
OPS = st.sampled_from(["concat", "strip", "replace", "len", "item", "removeprefix"])
NODES = st.one_of(
    st.builds(graph.Root, SMALL, st.sampled_from([None, "fake", "other"])),
    st.builds(graph.Text, SMALL, st.one_of(WORDS, SMALL)),
    st.builds(graph.Ids, SMALL, st.lists(st.integers(0, 400), max_size=2).map(tuple)),
    st.builds(graph.Special, SMALL, WORDS),
    st.builds(graph.Role, SMALL, WORDS, st.sampled_from(["begin", "end"])),
    st.builds(graph.Fill, SMALL, SMALL),
    st.builds(
        graph.Gen,
        SMALL,
        SMALL,
        SMALL,
        SAMPLINGS,
        st.one_of(st.none(), SMALL),
        stopped_by=st.one_of(st.none(), SMALL),
    ),
    st.builds(graph.Score, SMALL, SMALL, st.one_of(WORDS, SMALL, st.builds(graph.ValueRef, SMALL))),
    st.builds(graph.Mark, SMALL, SMALL, st.sampled_from(["begin", "end"])),
    st.builds(graph.Select, SMALL, SMALL, SMALL, st.lists(WORDS, max_size=3).map(tuple)),
    st.builds(graph.Fork, SMALL, BRANCHES),
    st.builds(graph.Join, SMALL, BRANCHES),
    st.builds(graph.Let, SMALL, OPS, st.lists(OPERANDS, max_size=3).map(tuple)),
    st.builds(graph.TextOf, SMALL, SMALL),
    st.builds(graph.Drop, SMALL),
)
OPTIONS = st.builds(message.Options, seed=SMALL, stream=st.booleans())
GRAPHS = st.builds(
    message.Graph,
    SMALL,
    st.integers(0, 2),
    st.lists(NODES, max_size=6).map(tuple),
    st.booleans(),
    st.one_of(OPTIONS, OPTIONS, st.none()),
)
COLUMNS = st.builds(
    message.Column,
    SMALL,
    st.tuples(SMALL),
    st.lists(st.one_of(WORDS, SMALL), max_size=2).map(tuple),
)
REQUESTS = st.one_of(
    GRAPHS,
    st.builds(message.Batch, GRAPHS, BRANCHES, BRANCHES, st.lists(COLUMNS, max_size=2).map(tuple)),
    st.builds(message.Cancel, SMALL, st.one_of(st.none(), SMALL)),
    st.builds(message.Release, BRANCHES),
    st.builds(message.Segments, SMALL, st.lists(WORDS, max_size=2).map(tuple)),
    st.just(message.Constraints(0, (Constraint(kind="regex", body="bad"),))),
    st.just(message.Bye()),
)


def programs_of(request: message.Request) -> tuple[int, ...]:
    """That it may begin."""
    match request:
        case message.Graph(program=program):
            return (program,)
        case message.Batch(template=template, others=others):
            return (template.program, *others)
        case _:
            return ()


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(REQUESTS, st.integers(0, 2)), max_size=10))
def test_nonsense_is_answered_and_harms_nobody(
    requests: list[tuple[message.Request, int]],
) -> None:
    driver = Driver()
    driver.connect("bystander")
    wanted = graph.Gen(0, 0, 1, Sampling(max_tokens=3))
    driver.program(graph.Text(0, "x"), wanted, client="bystander")
    for request, steps in requests:
        driver.send(request)
        for _ in range(steps):
            driver.step()
    driver.run()
    assert driver.finished("bystander").code is None
    for program in range(4):
        finished = driver.of(message.Finished, program=program)
        opened = sum(programs_of(request).count(program) for request, _ in requests)
        assert len(finished) <= opened
    driver.disconnect_all(("a", "bystander"))
    assert driver.front.num_streams == 0
    driver.front.check()
