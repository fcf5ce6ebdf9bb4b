"""Deltas of one shape travel as one request and come out as they were."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.fakes.random_programs import programs

from furcate.errors import WireError
from furcate.protocol.batch import MAX_NODES, pack, unpack
from furcate.protocol.codec import decode_requests, encode
from furcate.protocol.graph import Case, Gen, Let, Loop, Node, Role, Stop, Switch, Text, ValueRef
from furcate.protocol.message import Batch, Column, Graph, Options
from furcate.protocol.sampling import Sampling

LITERALS = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.sampled_from([0.0, -0.0, 1.0, 2.5]), st.text()
)


def chat(program: int, text: str = "x", *, seed: int = 0, **sampling: object) -> Graph:
    nodes = (
        Role(0, "user", "begin"),
        Text(0, 3),
        Text(0, text),
        Role(0, "user", "end"),
        Role(0, "assistant", "begin"),
        Gen(0, 0, 99, Sampling(**sampling)),  # type: ignore[arg-type]
        Role(0, "assistant", "end"),
    )
    return Graph(program, 0, nodes, True, Options(seed=seed))


def unpacked(packed: list[Graph | Batch]) -> list[Graph]:
    return [
        graph
        for each in decode_requests(encode(packed))
        for graph in (unpack(each) if isinstance(each, Batch) else [each])
        if isinstance(graph, Graph)
    ]


def same(ones: list[Graph], others: list[Graph]) -> bool:
    """Also in what `==` does not tell apart: 1, 1.0 and True."""
    return encode(ones) == encode(others)


@st.composite
def same_shaped(draw: st.DrawFn) -> list[Graph]:
    count = draw(st.integers(1, 8))
    epoch, done = draw(st.integers(0, 2)), draw(st.booleans())
    deltas = []
    for _ in range(count):
        loop = Loop(0, (Text(0, draw(st.text())), Stop(0)), draw(st.integers(1, 9)))
        switch = Switch(0, 1, (Case(draw(LITERALS), (Text(0, draw(st.text())),)), Case(None)))
        nodes: tuple[Node, ...] = (
            Text(0, draw(st.text() | st.integers(0, 3))),
            Let(1, "eq", (ValueRef(0), draw(LITERALS), draw(LITERALS))),
            Gen(0, 2, draw(st.integers(0, 2)), Sampling(stop=("a", draw(st.text())))),
            loop,
            switch,
        )
        options = Options(seed=draw(st.integers(0, 2**64 - 1))) if epoch == 0 else None
        deltas.append(Graph(draw(st.integers(0, 99)), epoch, nodes, done, options))
    return deltas


@st.composite
def any_deltas(draw: st.DrawFn) -> list[Graph]:
    deltas: list[Graph] = []
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            deltas += draw(same_shaped())
            continue
        nodes = tuple(draw(programs()))
        seeds = draw(st.lists(st.integers(0, 99), min_size=1, max_size=3))
        deltas += [Graph(seed, 0, nodes, True, Options(seed=seed)) for seed in seeds]
    return deltas


@given(any_deltas(), st.integers(1, 5))
def test_any_list_of_deltas_comes_out_as_it_went_in(deltas: list[Graph], min_deltas: int) -> None:
    assert same(unpacked(pack(deltas, min_deltas)), deltas)


@given(same_shaped())
def test_deltas_that_differ_in_literals_alone_are_one_request(deltas: list[Graph]) -> None:
    assert len(pack(deltas, 1)) == 1


def test_what_has_another_shape_stays_a_delta_of_its_own() -> None:
    deltas = [chat(i, str(i)) for i in range(6)]
    deltas[3] = replace(deltas[3], nodes=deltas[3].nodes[:-1])
    packed = pack(deltas, 2)
    assert [type(each) for each in packed] == [Batch, Graph, Batch]
    assert same(unpacked(packed), deltas)


@pytest.mark.parametrize(
    "other",
    [
        replace(chat(1), done=False),
        replace(chat(1), epoch=1),
        replace(chat(1), options=None),
        replace(chat(1), options=Options(seed=0, stream=True)),
        chat(1, stop=("a",)),
    ],
)
def test_options_and_lists_belong_to_the_shape(other: Graph) -> None:
    assert pack([chat(0), other], 2) == [chat(0), other]


def test_few_deltas_stay_as_they_are() -> None:
    deltas = [chat(i) for i in range(3)]
    assert pack(deltas) == deltas
    assert len(pack([*deltas, chat(3)])) == 1


def test_nodes_that_do_not_differ_are_shared() -> None:
    one, other = unpack(pack([chat(0, "a"), chat(1, "b")], 2)[0])  # type: ignore[arg-type]
    shared = [a is b for a, b in zip(one.nodes, other.nodes, strict=True)]
    assert shared == [True, True, False, True, True, True, True]


def test_a_batch_is_at_most_so_large_on_either_side() -> None:
    nodes = (Text(0, "x"),) * (MAX_NODES // 2)
    deltas = [Graph(i, 0, nodes, True, Options(seed=1)) for i in range(5)]
    packed = pack(deltas, 2)
    assert [type(each) for each in packed] == [Batch, Batch, Graph]
    assert sum(len(each.others) + 1 for each in packed if isinstance(each, Batch)) == 4
    bomb = Batch(deltas[0], tuple(range(1000)), (1,) * 1000)
    with pytest.raises(WireError, match="65536 nodes in all"):
        next(unpack(bomb))
    empty = Batch(Graph(0, 1, ()), tuple(range(100)))
    with pytest.raises(WireError, match="100 nodes in all, this one has 101"):
        next(unpack(empty, 100))


TEMPLATE = chat(0)


@pytest.mark.parametrize(
    ("seeds", "columns", "message"),
    [
        ((), (), "0 seeds"),
        ((1, 2), (), "2 seeds"),
        ((1,), (Column(7, (2,), ("a",)),), "node 7"),
        ((1,), (Column(1, (2,), ()),), "0 values for 1"),
        ((1,), (Column(1, (9,), ("a",)),), "leads nowhere"),
        ((1,), (Column(1, ("text",), ("a",)),), "leads nowhere"),
        ((1,), (Column(1, (2, 0), ("a",)),), "leads nowhere"),
        ((1,), (Column(5, (4,), ("a",)),), "no literal"),
        ((1,), (Column(1, (2,), (1.5,)),), "a delta of a batch is none"),
        ((1,), (Column(1, (2,), (-1,)),), "a delta of a batch is none"),
        ((1,), (Column(1, (0,), ("nothing",)),), "a delta of a batch is none"),
    ],
)
def test_a_batch_that_is_none_is_a_wire_error(
    seeds: tuple[int, ...], columns: tuple[Column, ...], message: str
) -> None:
    with pytest.raises(WireError, match=message):
        list(unpack(Batch(TEMPLATE, (1,), seeds, columns)))


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.text())
COLUMNS = st.builds(
    Column,
    st.integers(0, 8),
    st.lists(st.integers(0, 5) | st.text(max_size=2), min_size=1, max_size=4).map(tuple),
    st.lists(SCALARS, max_size=3).map(tuple),
)


@given(
    st.lists(st.integers(0, 9), max_size=3).map(tuple),
    st.lists(st.integers(0, 9), max_size=3).map(tuple),
    st.lists(COLUMNS, max_size=4).map(tuple),
)
def test_unpacking_is_total(
    others: tuple[int, ...], seeds: tuple[int, ...], columns: tuple[Column, ...]
) -> None:
    batch = Batch(TEMPLATE, others, seeds, columns)
    try:
        deltas = list(unpack(batch))
    except WireError:
        return
    assert all(msgspec.msgpack.decode(encode([delta])) for delta in deltas)
    assert same(unpacked(pack(deltas, 2)), deltas)
