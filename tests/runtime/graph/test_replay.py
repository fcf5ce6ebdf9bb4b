"""An engine that ends is followed by another, and nobody can tell from what programs say."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.fake_engine import FakeEngine, FakeStream
from tests.fakes.front_driver import Driver
from tests.fakes.random_programs import RISKY, programs

from furcate.errors import ConnectionFailed
from furcate.protocol.constraint import Constraint
from furcate.protocol.graph import Fill, Fork, Gen, Join, Node, Root, Select, Text, TextOf
from furcate.protocol.message import Cancel, Constraints, Delta, Finished
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import Append, End, Extend, Generate, OpenStream, Tokens

BAD = Constraint(kind="regex", body="bad")
GOOD = Constraint(kind="regex", body="a+")
X = (Root(0), Text(0, "x"))
LONG = 20


def gen(value: int, branch: int = 0, constraint: int | None = None, **sampling: object) -> Gen:
    wanted = {"max_tokens": 3, "ignore_eos": True} | sampling
    return Gen(branch, value, 1, Sampling(**wanted), constraint)


TREE = (
    *X,
    gen(0),
    Fork(0, (1, 2)),
    Text(1, " one "),
    gen(1, branch=1, n=2),
    Select(1, 2, 1, ("yes", "no")),
    Text(2, " two "),
    gen(3, branch=2, stop=("c",), max_tokens=9),
    Fill(2, 0),
    gen(4, branch=2),
    Join(0, (1, 2)),
    gen(5),
    TextOf(0, 6),
)


def start() -> Driver:
    driver = Driver()
    driver.send(Constraints(0, (BAD, GOOD)))
    return driver


def restart(driver: Driver) -> None:
    driver.lose_engine()
    driver.replace_engine(FakeEngine(max_context=4096))


def undisturbed(*nodes: Node, **options: object) -> Driver:
    driver = start()
    driver.program(*nodes, **options)
    driver.run()
    return driver


def told(driver: Driver) -> list[tuple[int, int, str]]:
    """Deltas, each run of one sample in one piece."""
    texts: dict[tuple[int, int], str] = {}
    for event in driver.of(Delta):
        assert isinstance(event, Delta)
        texts[event.value, event.sample] = texts.get((event.value, event.sample), "") + event.text
    return sorted((*key, text) for key, text in texts.items())


@pytest.mark.parametrize("at", range(30))
def test_a_program_says_the_same_whenever_the_engine_ends(at: int) -> None:
    whole = undisturbed(*TREE, stream=True)
    driver = start()
    driver.program(*TREE, stream=True)
    for _ in range(at):
        driver.step()
    restart(driver)
    driver.run()
    assert driver.values() == whole.values()
    assert told(driver) == told(whole)
    assert driver.finished().code is None
    for name in ("prompt", "completion"):
        usage, expected = driver.finished().usage, whole.finished().usage
        assert getattr(usage, name) == getattr(expected, name)


def failed_values(driver: Driver) -> set[int]:
    """Behind a failure, a node that has no value fails as such only if that is known first."""
    return {failed.value for failed in driver.failures() if failed.value is not None}


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    st.one_of(programs(), programs(RISKY, 10)),
    # Four steps do a generation of three tokens: no node runs in two ends in a row.
    st.lists(st.tuples(st.integers(4, 8), st.integers(1, 6)), min_size=1, max_size=6),
    st.booleans(),
)
def test_random_programs_say_the_same_however_often_the_engine_ends(
    nodes: list[Node], plan: list[tuple[int, int]], crash_first: bool
) -> None:
    whole, driver = start(), start()
    whole.program(*nodes, stream=True)
    whole.run()
    rest, epoch = list(nodes), 0
    for steps, size in plan:
        head, rest = rest[:size], rest[size:]
        if crash_first:
            driver.lose_engine()
        driver.program(*head, epoch=epoch, done=False, stream=True)
        if not crash_first:
            driver.lose_engine()
        driver.replace_engine(FakeEngine())
        for _ in range(steps):
            driver.step()
        epoch += 1
    driver.program(*rest, epoch=epoch, stream=True)
    driver.run()
    assert driver.values() == whole.values()
    assert told(driver) == told(whole)
    assert failed_values(driver) == failed_values(whole)
    assert driver.finished().code is None
    driver.disconnect_all()
    assert driver.front.num_streams == 0
    assert driver.engine.num_opened == driver.engine.num_ended
    assert driver.engine.constraints == {}


def test_known_results_are_given_and_running_nodes_are_sent_as_they_were() -> None:
    driver = start()
    driver.program(*X, gen(0), Text(0, "y"), gen(1, max_tokens=LONG), done=False)
    while not driver.values():
        driver.step()
    for _ in range(3):
        driver.step()
    (asked,) = [n for r in driver.sent if isinstance(r, Append) for n in r.nodes][3:4]
    driver.lose_engine()
    driver.sent.clear()
    driver.replace_engine(FakeEngine())
    opened, appended = [r for r in driver.sent if isinstance(r, (OpenStream, Append))]
    assert isinstance(opened, OpenStream)
    assert isinstance(appended, Append)
    *known, running = appended.nodes
    assert all(isinstance(node, Extend) for node in known)
    assert len(known) == 3
    assert running == asked
    assert isinstance(running, Generate)


def test_constraints_are_defined_again_before_they_are_used() -> None:
    driver = start()
    driver.program(*X, gen(0, constraint=1, max_tokens=LONG))
    driver.step()
    restart(driver)
    driver.run()
    assert set(driver.values()) == {0}
    assert list(driver.engine.constraints.values()) == [BAD, GOOD]


def test_programs_that_come_while_there_is_no_engine_wait_for_it() -> None:
    driver = start()
    driver.lose_engine()
    driver.program(*TREE, stream=True)
    driver.program(*X, TextOf(0, 0), program=1)
    assert driver.finished(program=1).code is None  # it needs no engine
    assert not driver.of(Finished)
    driver.replace_engine(FakeEngine())
    driver.run()
    assert driver.values() == undisturbed(*TREE, stream=True).values()


def test_a_deadline_passes_while_there_is_no_engine() -> None:
    driver = start()
    driver.program(*X, gen(0, max_tokens=LONG), timeout_s=2.0)
    driver.step()
    driver.lose_engine()
    driver.front.tick(2.0)
    driver.pump()
    assert driver.finished().code == "deadline"
    driver.replace_engine(FakeEngine())
    assert driver.front.num_streams == 0


def test_a_program_cancelled_while_there_is_no_engine_ends_at_once() -> None:
    driver = start()
    driver.program(*X, gen(0, max_tokens=LONG), Fork(0, (1,)), gen(1, branch=1))
    driver.step()
    driver.lose_engine()
    driver.send(Cancel(0))
    assert driver.finished().code == "cancelled"
    driver.replace_engine(FakeEngine())
    assert not driver.engine.streams


def test_a_cancel_that_crosses_the_end_of_the_engine_ends_the_program() -> None:
    driver = start()
    driver.program(*X, gen(0, max_tokens=LONG))
    driver.step()
    driver.send(Cancel(0))
    assert not driver.of(Finished)
    driver.lose_engine()
    assert driver.finished().code == "cancelled"


def test_the_next_engine_is_told_how_much_time_is_left() -> None:
    driver = start()
    driver.program(*X, gen(0, max_tokens=LONG), timeout_s=5.0)
    driver.lose_engine()
    driver.now = 3.0
    driver.sent.clear()
    driver.replace_engine(FakeEngine())
    (opened,) = [r for r in driver.sent if isinstance(r, OpenStream)]
    assert opened.deadline_s == 2.0


def test_children_are_opened_before_the_end_of_their_parent() -> None:
    driver = start()
    driver.program(*X, gen(0), Fork(0, (1, 2)), gen(1, branch=1), gen(2, branch=2))
    driver.lose_engine()
    driver.sent.clear()
    driver.replace_engine(FakeEngine())
    opened = [r for r in driver.sent if isinstance(r, OpenStream)]
    assert [o.parent for o in opened[1:]] == [opened[0].stream] * 2
    ends = [r for r in driver.sent if isinstance(r, Append) and End() in r.nodes]
    assert driver.sent.index(ends[0]) > driver.sent.index(opened[-1])


def test_an_engine_that_says_something_else_costs_the_program() -> None:
    driver = start()
    driver.program(*X, gen(0, max_tokens=LONG), stream=True)
    for _ in range(4):
        driver.step()
    restart(driver)
    (stream,) = driver.engine.streams
    driver.front.handle_engine([Tokens(stream, 1, (1, 2))], 0.0)
    driver.pump()
    assert driver.finished().code == "backend"
    assert "another output" in str(driver.finished().message)


def test_an_engine_of_another_model_is_not_the_next_one() -> None:
    driver = start()
    driver.lose_engine()
    with pytest.raises(ConnectionFailed, match="another one"):
        driver.replace_engine(FakeEngine(max_context=17))


# Suspects ----------------------------------------------------------------------------------------


class Fragile(FakeEngine):
    """Ends as soon as it runs a prompt with "fatal" in it."""

    def step(self) -> list:
        if any(map(is_fatal, self.streams.values())):
            raise SystemExit
        return super().step()


def is_fatal(stream: FakeStream) -> bool:
    return b"fatal" in bytes(i for n in stream.nodes if isinstance(n, Extend) for i in n.ids)


def run_with_restarts(driver: Driver, most: int = 10) -> int:
    """How many engines it took more than one."""
    for count in range(most):
        try:
            driver.run()
            return count
        except SystemExit:
            driver.lose_engine()
            driver.replace_engine(Fragile())
    raise AssertionError("the culprit was not found")


def fragile() -> Driver:
    driver = Driver(Fragile())
    driver.send(Constraints(0, (BAD, GOOD)))
    return driver


def test_a_program_that_runs_alone_in_two_ends_in_a_row_is_not_run_again() -> None:
    driver = fragile()
    driver.program(Root(0), Text(0, "fatal"), gen(0), gen(1))
    assert run_with_restarts(driver) == 2
    assert driver.finished().code == "crash_suspect"
    assert "killed by SIGKILL" in str(driver.finished().message)
    driver.program(*X, gen(0), program=1)
    assert run_with_restarts(driver) == 0
    assert driver.finished(program=1).code is None


@pytest.mark.parametrize("place", range(4))
def test_of_many_programs_only_the_culprit_fails(place: int) -> None:
    driver = fragile()
    for number in range(4):
        nodes = (Root(0), Text(0, "fatal"), gen(0)) if number == place else TREE
        driver.program(*nodes, program=number)
    assert run_with_restarts(driver) == 3
    whole = undisturbed(*TREE).values()
    for number in range(4):
        if number == place:
            assert driver.finished(program=number).code == "crash_suspect"
        else:
            assert driver.finished(program=number).code is None
            assert driver.values(program=number) == whole


def test_programs_that_were_in_no_forward_are_not_to_blame() -> None:
    """Those that wait for a constraint, say, through any number of ends."""
    driver = fragile()
    for number in range(4):
        nodes = (Root(0), Text(0, "fatal"), gen(0)) if number == 2 else TREE
        driver.program(*nodes, program=number)
    ends = 0
    while not driver.of(Finished, "a", 2):
        streams = driver.engine.streams  # type: ignore[attr-defined]
        guilty = {number for number, each in streams.items() if is_fatal(each)}
        driver.lose_engine(frozenset(guilty))
        driver.replace_engine(Fragile())
        ends += 1
    assert ends == 2
    assert run_with_restarts(driver) == 0
    assert driver.finished(program=2).code == "crash_suspect"
    for number in (0, 1, 3):
        assert driver.finished(program=number).code is None


def test_two_culprits_are_found_one_after_the_other() -> None:
    driver = fragile()
    for number in range(4):
        nodes = (Root(0), Text(0, "fatal"), gen(0)) if number in (1, 3) else TREE
        driver.program(*nodes, program=number)
    assert run_with_restarts(driver) == 4
    codes = [driver.finished(program=number).code for number in range(4)]
    assert codes == [None, "crash_suspect", None, "crash_suspect"]


def test_a_suspect_that_is_cancelled_lets_the_next_one_run() -> None:
    driver = start()
    for number in range(3):
        driver.program(*X, gen(0, max_tokens=LONG), program=number)
    driver.step()
    restart(driver)
    restart(driver)
    assert len(driver.engine.streams) == 1
    driver.send(Cancel(0))
    driver.run()
    assert [driver.finished(program=n).code for n in range(3)] == ["cancelled", None, None]


def test_a_held_program_can_be_cancelled() -> None:
    driver = start()
    for number in range(3):
        driver.program(*X, gen(0, max_tokens=LONG), program=number)
    restart(driver)
    restart(driver)
    driver.send(Cancel(1))
    assert driver.finished(program=1).code == "cancelled"
    driver.run()
    assert [driver.finished(program=n).code for n in range(3)] == [None, "cancelled", None]


def test_new_programs_run_while_suspects_are_tried() -> None:
    driver = start()
    for number in range(3):
        driver.program(*X, gen(0, max_tokens=LONG), program=number)
    restart(driver)
    restart(driver)
    driver.program(*X, gen(0, max_tokens=2), program=7)
    while not driver.of(Finished, program=7):
        driver.step()
    assert not driver.of(Finished, program=0)
    driver.run()
    assert all(driver.finished(program=number).code is None for number in range(3))
