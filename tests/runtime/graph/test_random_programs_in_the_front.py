"""Properties over random programs: however a recording is cut and whenever it is aborted.

Values that differ would show a wrong id anywhere: the fake engine's output is a hash of all tokens
before it.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.fake_engine import FakeEngine
from tests.fakes.front_driver import Driver
from tests.fakes.random_programs import ELECTING, RISKY, cuts, programs

from furcate.protocol.constraint import Constraint
from furcate.protocol.graph import Call, Elect, Gen, Let, Mark, Node, Score, Select, TextOf
from furcate.protocol.message import Cancel, Constraints, Finished, Release

BAD = Constraint(kind="regex", body="bad")


def start() -> Driver:
    driver = Driver()
    driver.send(Constraints(0, (BAD,)))
    return driver


def send_cut(driver: Driver, nodes: list[Node], plan: list[int]) -> None:
    """Sends the program in pieces; after each the engine runs for as many steps as the plan says,
    whose reports reach the front only with the next piece if the number is odd."""
    rest, epoch, late = list(nodes), 0, []
    while rest:
        size = plan[epoch % len(plan)] + 1
        driver.program(*rest[:size], epoch=epoch, done=len(rest) <= size, stream=True)
        rest = rest[size:]
        driver.front.handle_engine(late, driver.now)
        late = []
        for _ in range(size):
            late += driver.engine.step()
        if size % 2 == 0:
            driver.front.handle_engine(late, driver.now)
            late = []
        driver.front.check()
        driver.pump()
        epoch += 1
    driver.front.handle_engine(late, driver.now)
    driver.pump()
    driver.run()


def outcome(driver: Driver) -> tuple[object, ...]:
    """Values, which of them failed, and the first failure. Behind that one, a node that is wrong in
    itself fails as such or as a dependent, whichever is known first."""
    failures = sorted(driver.failures(), key=lambda failed: failed.node)
    failed_values = sorted(f.value for f in failures if f.value is not None)
    first = [(f.node, f.code, f.branch) for f in failures[:1]]
    return driver.values(), failed_values, first, driver.finished().code


@pytest.mark.slow
@settings(max_examples=75, deadline=None)
@given(st.one_of(programs(), programs(RISKY, 10)), cuts())
def test_the_outcome_does_not_depend_on_how_the_recording_is_cut(
    nodes: list[Node], plan: list[int]
) -> None:
    whole, cut = start(), start()
    whole.program(*nodes, stream=True)
    whole.run()
    send_cut(cut, nodes, plan)
    assert outcome(whole) == outcome(cut)
    assert whole.finished().code is None
    # Each stream that the uncut program runs to its end, the cut one does as well.
    assert not Counter(whole.engine.finals) - Counter(cut.engine.finals)
    for driver in (whole, cut):
        check_values(driver, nodes)
        driver.disconnect_all()
        check_empty(driver)


def check_values(driver: Driver, nodes: list[Node]) -> None:
    """Each value is told exactly once, and deltas add up to it."""
    values = [n.value for n in nodes if isinstance(n, (Gen, Select, Let, TextOf, Score, Call))]
    values += [n.value for n in nodes if isinstance(n, Mark) and n.edge == "end"]
    values += [n.stopped_by for n in nodes if isinstance(n, Gen) and n.stopped_by is not None]
    values += [n.order for n in nodes if isinstance(n, Elect)]
    told = [*driver.values(), *(f.value for f in driver.failures() if f.value is not None)]
    assert sorted(told) == sorted(values)
    gens = {n.value for n in nodes if isinstance(n, Gen)}
    for value, data in driver.values().items():
        if value in gens:
            for sample, text in enumerate(data if isinstance(data, list) else [data]):
                assert driver.deltas(value, sample) == text


def check_empty(driver: Driver) -> None:
    assert driver.front.num_programs == 0
    assert driver.front.num_streams == 0
    assert driver.engine.num_opened == driver.engine.num_ended
    assert driver.engine.constraints == {}
    driver.front.check()


@pytest.mark.slow
@settings(max_examples=75, deadline=None)
@given(programs(ELECTING, 10), cuts(), st.integers(0, 8))
def test_who_is_chosen_depends_neither_on_the_cuts_nor_on_the_engine(
    nodes: list[Node], plan: list[int], steps: int
) -> None:
    """Losers may say more or less before they are cancelled, but nothing else."""
    whole, cut, torn = start(), start(), start()
    whole.program(*nodes, stream=True)
    whole.run()
    send_cut(cut, nodes, plan)
    torn.program(*nodes)
    for _ in range(steps):
        torn.step()
    torn.lose_engine()
    torn.replace_engine(FakeEngine(fingerprint=torn.codec.fingerprint))
    torn.run()
    orders = {node.order for node in nodes if isinstance(node, Elect)}
    for driver in (cut, torn):
        assert driver.finished().code is None
        assert orders & whole.values().keys() == orders & driver.values().keys()
        for value in whole.values().keys() & driver.values().keys():
            assert whole.values()[value] == driver.values()[value]


ABORTS = ("none", "cancel", "cancel branch", "release", "disconnect", "deadline", "lost")


@pytest.mark.slow
@settings(max_examples=75, deadline=None)
@given(
    st.one_of(programs(), programs(ELECTING, 10)),
    cuts(),
    st.integers(0, 8),
    st.sampled_from(ABORTS),
)
def test_an_abort_at_any_time_ends_the_program_once_and_leaves_nothing(
    nodes: list[Node], plan: list[int], steps: int, abort: str
) -> None:
    driver = start()
    size = 1 + sum(plan) % len(nodes)
    driver.program(*nodes[:size], done=False, timeout_s=5.0, stream=True)
    for _ in range(steps):
        driver.step()
    match abort:
        case "cancel":
            driver.send(Cancel(0))
        case "cancel branch":
            driver.send(Cancel(0, 0))
        case "release":
            driver.send(Release((0,)))
        case "disconnect":
            driver.front.disconnect("a")
        case "deadline":
            driver.front.tick(5.0)
        case "lost":
            driver.front.engine_lost("gone")
            driver.engine.streams.clear()
            driver.engine.constraints.clear()
            driver.engine.num_ended = driver.engine.num_opened
    driver.front.check()
    driver.pump()
    driver.run()
    if abort not in ("disconnect", "release"):
        driver.program(*nodes[size:], epoch=1)
        driver.run()
        driver.finished()
        check_values(driver, nodes)
    else:
        assert not driver.of(Finished)
    driver.disconnect_all()
    check_empty(driver)
