"""What the front tells the scheduler of nodes that it has not sent, and how often."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from tests.fakes.front_driver import Driver
from tests.fakes.random_programs import programs

from furcate.protocol.constraint import Constraint
from furcate.protocol.graph import (
    Drop,
    Fill,
    Fork,
    Gen,
    Join,
    Let,
    Node,
    Root,
    Select,
    Text,
    TextOf,
    ValueRef,
)
from furcate.protocol.message import Constraints, Finished, Graph, Options
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import Hint, OpenStream

X = (Root(0), Text(0, "x"))


def gen(value: int, branch: int = 0, n: int = 1) -> Gen:
    return Gen(branch, value, 1, Sampling(max_tokens=3, n=n, ignore_eos=True))


class Listener:
    """The last hint of each stream, by the order in which the streams were opened."""

    def __init__(self, *nodes: Node, done: bool = True) -> None:
        self.driver = Driver()
        self.driver.program(*nodes, done=done)

    @property
    def hints(self) -> list[tuple[int, int, str]]:
        last: dict[int, tuple[int, int, str]] = {}
        for request in self.driver.sent:
            if isinstance(request, OpenStream):
                last[request.stream] = (0, 0, "unknown")
            elif isinstance(request, Hint):
                last[request.stream] = (request.path, request.num_waiting, request.next_use)
        return list(last.values())


def test_a_finished_recording_leaves_its_tokens_to_nobody() -> None:
    assert Listener(*X, gen(0), gen(1)).hints == [(0, 0, "dead")]


def test_an_open_recording_leaves_them_to_the_host_code() -> None:
    listener = Listener(*X, gen(0), done=False)
    assert listener.hints == [(0, 0, "idle")]
    listener.driver.program(epoch=1)
    assert listener.hints == [(0, 0, "dead")]


def test_a_dropped_branch_is_dead_while_the_program_goes_on() -> None:
    listener = Listener(*X, Fork(0, (1,)), gen(0), gen(1, 1), Drop(1), done=False)
    assert sorted(listener.hints) == [(0, 0, "dead"), (0, 0, "idle")]


def test_other_samples_are_dead_as_soon_as_they_are_opened() -> None:
    listener = Listener(*X, gen(0, n=3), done=False)
    assert sorted(listener.hints) == [(0, 0, "dead"), (0, 0, "dead"), (0, 0, "idle")]


def test_nodes_that_wait_for_another_branch_lie_on_the_path_of_both() -> None:
    # Branch 1 produces what branch 2 waits for, which has two more nodes then.
    nodes = (*X, Fork(0, (1, 2)), gen(0, 1), gen(9, 2), Fill(2, 0), gen(1, 2), gen(2, 2))
    listener = Listener(*nodes, done=False)
    parent, first, second = listener.hints
    assert parent == (0, 0, "idle")
    assert first == (2, 1, "idle")
    assert second == (2, 0, "scheduled")
    listener.driver.run()
    assert set(listener.hints) == {(0, 0, "idle")}  # only host code can ask for more


def test_a_join_waits_for_all_children_and_its_path_is_theirs() -> None:
    nodes = (*X, Fork(0, (1, 2, 3)), *(gen(i, i) for i in (1, 2, 3)), Join(0, (1, 2, 3)))
    listener = Listener(*nodes, gen(4), gen(5), Select(0, 6, 1, ("yes", "no")))
    parent, *children = listener.hints
    assert parent == (3, 0, "scheduled")
    assert [(path, waiting) for path, waiting, _ in children] == [(3, 1)] * 3


def test_a_value_that_others_are_made_of_holds_up_who_needs_those() -> None:
    nodes = (*X, Fork(0, (1, 2)), gen(0, 1), gen(9, 2), Let(1, "strip", (ValueRef(0),)))
    nodes = (*nodes, TextOf(1, 2), Let(3, "concat", ("", ValueRef(1), ValueRef(2))), Fill(2, 3))
    listener = Listener(*nodes, gen(4, 2), done=False)
    assert listener.hints[1][:2] == (1, 1)


def test_children_that_begin_behind_a_running_node_are_on_its_path() -> None:
    nodes = (*X, gen(0), Fork(0, (1, 2)), gen(1, 1), gen(2, 1), gen(3, 1), gen(4, 2))
    listener = Listener(*nodes, done=False)
    assert listener.hints[0] == (3, 0, "idle")  # the engine knows itself that they begin there
    driver = listener.driver
    while 0 not in driver.values():
        driver.step()
    assert listener.hints[0] == (0, 0, "idle")  # they have branched off


def test_a_chain_through_several_branches_is_followed_to_its_end() -> None:
    nodes: list[Node] = [*X, Fork(0, tuple(range(1, 9)))]
    for branch in range(1, 9):
        if branch > 1:
            nodes.append(Fill(branch, branch - 1))
        nodes.append(gen(branch, branch))
    listener = Listener(*nodes, done=False)
    # The parent's own stream, from which most of them have yet to begin, and that of branch 1.
    assert listener.hints == [(0, 0, "scheduled"), (7, 1, "idle")]


def test_many_ways_to_the_same_node_are_looked_at_once() -> None:
    nodes: list[Node] = [*X, Fork(0, tuple(range(1, 61)))]
    for branch in range(1, 61):
        if branch > 2:  # each pair waits for both of the pair before it
            level = (branch - 1) // 2 * 2
            nodes += [
                Let(100 + branch, "concat", ("", ValueRef(level - 1), ValueRef(level))),
                Fill(branch, 100 + branch),
            ]
        nodes.append(gen(branch, branch))
    listener = Listener(*nodes, done=False)
    assert listener.hints[1][1] == 2
    assert listener.hints[1][0] >= 10


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(programs())
def test_a_stream_gets_one_hint_a_flush_at_most_and_only_news(nodes: list[Node]) -> None:
    driver = Driver()
    driver.send(Constraints(0, (Constraint(kind="regex", body="bad"),)))
    last: dict[int, Hint] = {}
    driver.program(*nodes[:4], done=False)
    driver.program(*nodes[4:], epoch=1)
    begin = 0
    while driver.engine.has_work or driver.asked or begin < len(driver.sent):
        hints = [r for r in driver.sent[begin:] if isinstance(r, Hint)]
        if begin:  # the first two sends are one flush each
            assert max(Counter(h.stream for h in hints).values(), default=0) <= 1
        for hint in hints:
            assert last.get(hint.stream) != hint
            last[hint.stream] = hint
        begin = len(driver.sent)
        driver.step()
    assert driver.of(Finished)


def test_a_stream_is_opened_with_its_deadline_and_its_tenant() -> None:
    driver = Driver()
    driver.now = 10.0
    options = Options(seed=1, timeout_s=5.0, tenant="blue")
    driver.send(Graph(0, 0, (*X, gen(0), Fork(0, (1,))), False, options))
    driver.now = 12.0
    driver.send(Graph(0, 1, (gen(1, 1),), True))
    opened = [r for r in driver.sent if isinstance(r, OpenStream)]
    assert [(o.deadline_s, o.namespace) for o in opened] == [(5.0, "blue"), (3.0, "blue")]


def test_children_of_one_fork_are_opened_at_one_place_in_one_flush() -> None:
    driver = Driver()
    nodes = [*X, gen(0), Fork(0, (1, 2, 3)), *(gen(i, i) for i in (1, 2, 3))]
    driver.front.handle("a", [Graph(0, 0, tuple(nodes), True, Options(seed=1))], 0.0)
    mail = driver.front.drain().to_engine
    opened = [r for r in mail if isinstance(r, OpenStream)]
    assert [(o.parent, o.parent_nodes) for o in opened[1:]] == [(opened[0].stream, 2)] * 3
