"""Calls and checks over sockets, between processes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from tests.e2e.demo import Server

import furcate as fc

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def backend() -> Iterator[fc.Session]:
    with (
        Server("test:context", "--threads", "1", start_s=60.0) as server,
        fc.connect(server.address) as session,
    ):
        yield session


@fc.function
def works(s: fc.ProgramState, number: int) -> tuple[int, str]:
    s += "say: " + fc.gen("x", max_tokens=8, check=lambda text: len(text) % 2 == 0, retries=30)
    shouted = s.call(lambda text, count: [text.upper(), count], s.ref("x"), number)
    s += shouted[0] + fc.gen("y", max_tokens=3)
    assert shouted.get() == [s["x"].upper(), number]
    return number, threading.current_thread().name


def test_programs_with_calls_and_checks_run_side_by_side(backend: fc.Session) -> None:
    states = works.run_batch([(number,) for number in range(20)], backend=backend, seed=1)
    assert [state.ret_value[0] for state in states] == list(range(20))
    assert all(len(state["x"]) % 2 == 0 for state in states)
    again = works.run(7, backend=backend, seed=8)
    assert again.text() == states[7].text()


def test_what_a_function_raises_comes_back_as_it_was_raised(backend: fc.Session) -> None:
    @fc.function
    def breaks(s: fc.ProgramState) -> None:
        s += "say: " + s.call(lambda: [][0])

    with pytest.raises(fc.ProgramError) as raised:
        breaks.run(backend=backend)
    assert isinstance(raised.value.cause, fc.CallFailed)
    assert isinstance(raised.value.cause.__cause__, IndexError)
