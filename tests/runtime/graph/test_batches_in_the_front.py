"""A Batch does what its deltas would do one by one."""

from __future__ import annotations

import pytest
from tests.fakes.front_driver import Driver

from furcate.protocol.batch import MAX_NODES, pack
from furcate.protocol.graph import Gen, Text, TextOf
from furcate.protocol.message import Batch, Cancel, Column, Graph, Options, Refused
from furcate.protocol.sampling import Sampling

pytestmark = pytest.mark.timeout(20)


def deltas(count: int) -> list[Graph]:
    return [
        Graph(
            number,
            0,
            (Text(0, f"item {number}"), Gen(0, 0, 1, Sampling(max_tokens=6)), TextOf(0, 1)),
            True,
            Options(seed=100 + number),
        )
        for number in range(count)
    ]


def results(requests: list[Graph | Batch], count: int) -> list[dict[int, object]]:
    driver = Driver()
    driver.send(*requests)
    driver.run()
    assert all(driver.finished(program=number).code is None for number in range(count))
    return [driver.values(program=number) for number in range(count)]


def test_the_programs_of_a_batch_run_as_if_each_had_come_alone():
    one_by_one = results([*deltas(7)], 7)
    packed = pack(deltas(7))
    assert len(packed) == 1
    assert results(packed, 7) == one_by_one
    assert len({str(each) for each in one_by_one}) == 7


def test_later_deltas_come_in_batches_too_and_meet_programs_that_are_gone():
    first = [Graph(n, 0, (Text(0, f"{n}"),), False, Options(seed=n)) for n in range(5)]
    rest = [Graph(n, 1, (Text(0, f"-{n}"), TextOf(0, 0)), True) for n in range(5)]
    driver = Driver()
    driver.send(*pack(first))
    driver.send(Cancel(3))
    driver.send(*pack(rest))
    driver.run()
    assert [driver.values(program=n).get(0) for n in range(5)] == [
        "0-0",
        "1-1",
        "2-2",
        None,
        "4-4",
    ]
    assert driver.finished(program=3).code == "cancelled"


def test_a_program_of_a_batch_that_makes_no_sense_is_refused_alone():
    bad = Batch(deltas(1)[0], (1, 2), (7, 8), (Column(2, (2,), (0, 1)),))  # 0 exists already
    driver = Driver()
    driver.send(bad)
    driver.run()
    codes = [driver.finished(program=number).code for number in range(3)]
    assert codes == [None, "usage", None]


@pytest.mark.parametrize(
    "batch",
    [
        Batch(deltas(1)[0], tuple(range(1, MAX_NODES)), (1,) * (MAX_NODES - 1)),
        Batch(deltas(1)[0], (1, 2), (7,)),
        Batch(deltas(1)[0], (1,), (7,), (Column(9, (2,), ("x",)),)),
    ],
)
def test_a_batch_that_is_none_refuses_the_connection_before_anything_runs(batch):
    driver = Driver()
    driver.send(batch)
    driver.run()
    (refused,) = driver.of(Refused)
    assert refused.code == "wire"
    assert driver.front.num_programs == driver.front.num_streams == 0
    assert not driver.sent
