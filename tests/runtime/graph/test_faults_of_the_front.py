"""What goes wrong inside the front itself costs one program or one connection, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.fakes.front_driver import Driver

from furcate.protocol.constraint import Constraint
from furcate.protocol.graph import Gen, Root, Text
from furcate.protocol.message import Cancel, Constraints, Refused, Release
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import Extend, Pin
from furcate.runtime.graph.stream import NOWHERE, Stream
from furcate.runtime.tokenize.byte_level import ByteTokenizer

if TYPE_CHECKING:
    from furcate.runtime.graph.cell import Cell
    from furcate.runtime.graph.stream import StreamOwner

GEN = Gen(0, 0, 1, Sampling(max_tokens=3))


class Stumbling(ByteTokenizer):
    """Fails on a certain text, as no tokenizer should."""

    def encode(self, text: str) -> list[int]:
        if "boom" in text:
            raise ZeroDivisionError("in the tokenizer")
        return super().encode(text)


def check_one_fault(driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    driver.run()
    assert driver.finished(program=1).code is None
    assert driver.finished().code == "backend"
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is not None
    assert driver.front.num_streams == 0
    driver.front.check()


def test_a_fault_on_a_delta_costs_that_program(caplog: pytest.LogCaptureFixture) -> None:
    driver = Driver(codec=Stumbling())
    driver.program(Root(0), Text(0, "x"), GEN, program=1)
    driver.program(Root(0), Text(0, "x"), GEN, done=False)
    driver.step()
    driver.program(Text(0, "boom"), Gen(0, 1, 1, Sampling()), epoch=1)
    check_one_fault(driver, caplog)
    assert "ZeroDivisionError: in the tokenizer" in str(driver.finished().message)


def test_a_fault_on_an_event_of_the_engine_costs_that_program(
    caplog: pytest.LogCaptureFixture,
) -> None:
    driver = Driver()
    for number in range(2):
        driver.program(Root(0), Text(0, "x"), GEN, program=number)
    program = driver.front._connections["a"].programs[0]

    known = program.resolve

    def resolve(cell: Cell, *_: object) -> None:
        program.resolve = known  # type: ignore[method-assign]
        raise KeyError("no such book")

    program.resolve = resolve  # type: ignore[assignment,method-assign]
    check_one_fault(driver, caplog)


def test_a_program_that_cannot_even_be_ended_in_order_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    driver = Driver()
    for number in range(2):
        driver.program(Root(0), Text(0, "x"), GEN, program=number)

    def resolve(cell: Cell, *_: object) -> None:
        raise KeyError("no such book")

    driver.front._connections["a"].programs[0].resolve = resolve  # type: ignore[assignment,method-assign]
    driver.run()
    assert [driver.finished(program=number).code for number in range(2)] == ["backend", None]
    assert len(caplog.records) == 2
    assert driver.front.num_streams == 0


def test_a_fault_on_anything_else_refuses_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    driver = Driver()
    driver.connect("b")

    def acquire(constraint: Constraint) -> None:
        raise RecursionError("too deep")

    known = driver.front._desk.constraints.acquire
    driver.front._desk.constraints.acquire = acquire  # type: ignore[assignment,method-assign]
    driver.send(Constraints(0, (Constraint(kind="regex", body="a"),)))
    driver.front._desk.constraints.acquire = known  # type: ignore[method-assign]
    refused = driver.events["a"][-1]
    assert isinstance(refused, Refused)
    assert (refused.code, len(caplog.records)) == ("backend", 1)
    driver.program(Root(0), Text(0, "x"), GEN, client="b")
    driver.run()
    assert driver.finished("b").code is None


@pytest.mark.parametrize("request_", [Cancel(0), Release((0,))])
def test_a_program_that_failed_inside_can_be_cancelled_and_released(
    request_: Cancel | Release,
) -> None:
    driver = Driver(codec=Stumbling())
    driver.program(Root(0), Text(0, "boom"), GEN)
    assert driver.finished().code == "backend"
    driver.send(request_)
    driver.run()
    driver.finished()


def test_the_books_of_a_stream_can_carry_a_pin() -> None:
    class Owner:
        def fail_from(self, *_: object) -> None:
            raise AssertionError

    owner: StreamOwner = Owner()
    stream = Stream(0, owner, NOWHERE)
    for node in (Extend((1, 2)), Pin(7), Extend((3,))):
        stream.remember(node, 0, None)
    assert stream.ids_at(2) == [1, 2]
    assert stream.ids_at(3) == [1, 2, 3]
    assert [node.length for node in stream.nodes] == [2, 2, 3]
    assert stream.nodes[1].replayed == Pin(7)
    assert stream.num_known == 3
