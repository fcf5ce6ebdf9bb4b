"""Elect: who is chosen and when, what the children begin with, and what becomes of the others."""

from __future__ import annotations

import pytest
from tests.fakes.fake_engine import FakeEngine
from tests.fakes.front_driver import Driver

from furcate.protocol.graph import (
    Drop,
    Elect,
    Fork,
    Gen,
    Let,
    Node,
    Select,
    Text,
    TextOf,
    ValueRef,
)
from furcate.protocol.message import Cancel, Value
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import CancelStream, End, Hint


def gen(value: int, branch: int, max_tokens: int = 3) -> Gen:
    return Gen(branch, value, 1, Sampling(max_tokens=max_tokens))


def key(value: int, text: object) -> Let:
    return Let(value, "concat", ("", str(text)))


def election(*keys: object, keep: int = 1) -> list[Node]:
    """Candidates 1.. that say c1.., with literal keys of values 100..; children from 50, order 99,
    the text of the child at rank r is value 200 + r."""
    count = len(keys)
    candidates = tuple(range(1, count + 1))
    nodes: list[Node] = [Text(0, "root "), Fork(0, candidates)]
    nodes += [Text(branch, f"c{branch}") for branch in candidates]
    nodes += [key(100 + i, each) for i, each in enumerate(keys)]
    children = tuple(50 + rank for rank in range(keep))
    nodes.append(Elect(candidates, tuple(range(100, 100 + count)), children, 99))
    return nodes + [TextOf(child, 200 + rank) for rank, child in enumerate(children)]


def talkative() -> FakeEngine:
    """Says "a" until the limit."""
    return FakeEngine(lambda node, prompt: b"a" * node.sampling.max_tokens)


def played(*nodes: Node, engine: FakeEngine | None = None) -> Driver:
    driver = Driver(engine)
    driver.program(*nodes)
    driver.run()
    return driver


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        ((1, 3, 2), [1, 2]),
        ((2, 2, 1), [0, 1]),
        (("1.5", "15e-1", "1"), [0, 1]),
        (("x", "-1", "y"), [1, 0]),
        (("nan", "inf", "0"), [1, 2]),
    ],
)
def test_the_greatest_keys_are_chosen_and_the_first_of_equals(keys, order) -> None:
    driver = played(*election(*keys, keep=2))
    assert driver.values()[99] == order
    assert [driver.values()[200 + rank] for rank in range(2)] == [f"root c{i + 1}" for i in order]
    assert driver.finished().code is None


def test_keys_of_choices_are_read_from_their_text() -> None:
    engine = FakeEngine()
    nodes: list[Node] = [Text(0, "a"), Fork(0, (1, 2))]
    nodes += [Select(branch, branch, 1, ("7", "7")[:1]) for branch in (1, 2)]
    nodes += [Elect((1, 2), (1, 2), (3,), 9), TextOf(3, 10)]
    driver = played(*nodes, engine=engine)
    assert driver.values()[9] == [0]
    assert driver.values()[10] == "a7"


def test_without_a_number_the_election_fails_and_its_children_with_it() -> None:
    driver = played(*election("good", "bad", keep=1), gen(300, 50))
    failed = {failure.value: failure for failure in driver.failures()}
    assert failed[99].code == "generation"
    assert "'good'" in failed[99].message
    assert failed[200].code == failed[300].code == "upstream"
    assert driver.finished().code is None


def test_children_go_on_from_where_their_candidates_stand() -> None:
    nodes = [Text(0, "p"), Fork(0, (1, 2)), Text(1, "a"), Text(2, "b"), gen(1, 1), gen(2, 2)]
    nodes += [key(3, 1), key(4, 2), Elect((1, 2), (3, 4), (5,), 6), Text(5, "!"), gen(7, 5)]
    driver = played(*nodes, TextOf(5, 8))
    values = driver.values()
    assert values[8] == f"pb{values[2]}!{values[7]}"
    # The streams of the others are not run to their end.
    assert 1 not in values


def test_losers_are_cancelled_with_all_that_was_forked_off_them() -> None:
    driver = Driver()
    driver.program(
        Text(0, "p"), Fork(0, (1, 2)), Text(1, "a"), Text(2, "b"), gen(1, 1, 100),
        Fork(1, (3,)), gen(2, 3, 100), gen(8, 2, 2),
        key(4, 1), key(5, 2), Elect((1, 2), (4, 5), (6,), 7), gen(9, 6, 2),
    )  # fmt: skip
    driver.run()
    failed = {failure.value: failure.code for failure in driver.failures()}
    assert failed == {1: "cancelled", 2: "cancelled"}
    assert driver.finished().code is None
    assert any(isinstance(request, CancelStream) for request in driver.sent)
    assert driver.engine.num_opened == driver.engine.num_ended


def test_a_candidates_stream_is_kept_until_the_election_is_decided() -> None:
    driver = Driver(talkative())
    driver.program(
        Text(0, "p"), Fork(0, (1, 2)), Text(1, "a"), Text(2, "b"), gen(1, 1, 1), gen(2, 2, 30),
        Let(3, "len", (ValueRef(1),)), Let(4, "len", (ValueRef(2),)),
        Elect((1, 2), (3, 4), (6,), 7), Drop(1), Drop(2), gen(9, 6, 2), TextOf(6, 10),
    )  # fmt: skip
    while 1 not in driver.values():
        driver.step()
    driver.step()
    ended = [r.stream for r in driver.sent for n in getattr(r, "nodes", ()) if isinstance(n, End)]
    assert ended == [0]  # the stream that the candidates were forked off
    hint = [request for request in driver.sent if isinstance(request, Hint)][-1]
    assert hint.next_use == "scheduled"
    driver.run()
    values = driver.values()
    assert values[10] == f"pb{values[2]}{values[9]}"


@pytest.mark.parametrize("late", [0, 1, 2])
def test_the_first_that_holds_is_chosen_once_those_before_it_are_known(late: int) -> None:
    driver = Driver(talkative())
    nodes: list[Node] = [Text(0, "p"), Fork(0, (1, 2, 3))]
    lengths = [20 if index == late else 2 for index in range(3)]
    nodes += [gen(index, index + 1, lengths[index]) for index in range(3)]
    for index in range(3):
        nodes.append(Let(10 + index, "len", (ValueRef(index),)))
        nodes.append(Let(20 + index, "eq", (ValueRef(10 + index), 2 if index else -1)))
    nodes += [Elect((1, 2, 3), (20, 21, 22), (4,), 30, "first"), TextOf(4, 31)]
    driver.program(*nodes)
    driver.run()
    chosen = 2 if late == 1 else 1
    assert driver.values()[30] == [chosen]
    # Only who comes before the chosen one is waited for.
    assert (late in driver.values()) == (late < chosen)


def test_too_few_that_hold_fail_the_election() -> None:
    nodes: list[Node] = [Fork(0, (1, 2)), Let(1, "eq", ("a", "a")), Let(2, "eq", ("a", "b"))]
    nodes += [Elect((1, 2), (1, 2), (3, 4), 5, "first")]
    driver = played(*nodes)
    (failure,) = driver.failures()
    assert (failure.value, failure.code) == (5, "generation")
    assert "holds for 1 of 2 candidates, 2 are wanted" in failure.message


def test_a_cancelled_candidate_comes_last() -> None:
    driver = Driver()
    driver.program(
        Text(0, "p"), Fork(0, (1, 2)), Text(1, "a"), Text(2, "b"), gen(1, 1, 50), gen(2, 2, 2),
        Let(3, "len", (ValueRef(1),)), Let(4, "len", (ValueRef(2),)),
        Elect((1, 2), (3, 4), (5,), 6), TextOf(5, 7),
    )  # fmt: skip
    driver.step()
    driver.send(Cancel(0, 1))
    driver.run()
    assert driver.values()[6] == [1]
    assert driver.values()[7] == f"pb{driver.values()[2]}"


def test_seeds_of_the_children_do_not_depend_on_who_was_chosen() -> None:
    def draws(first: int, second: int) -> set[int]:
        driver = played(*election(first, second), gen(300, 50, 2))
        return {
            node.seed
            for request in driver.sent
            for node in getattr(request, "nodes", ())
            if hasattr(node, "seed")
        }

    assert draws(1, 2) == draws(2, 1)


def test_a_pick_needs_only_what_it_picks_and_says_where_it_comes_from() -> None:
    nodes = [Text(0, "p"), Fork(0, (1, 2)), Text(1, "a"), Text(2, "b"), gen(1, 1, 50), gen(2, 2, 2)]
    nodes += [key(3, 1), key(4, 2), Elect((1, 2), (3, 4), (5,), 6)]
    nodes += [Let(7, "pick", (ValueRef(6), 0, ValueRef(1), ValueRef(2)))]
    driver = played(*nodes)
    (picked,) = [event for event in driver.of(Value) if event.value == 7]
    assert (picked.data, picked.source) == (driver.values()[2], 2)


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (Elect((1, 2), (1,), (3,), 9), "2 candidates have 1 keys"),
        (Elect((1, 1), (1, 1), (3,), 9), "not all different"),
        (Elect((1, 2), (1, 1), (3, 4, 5), 9), "cannot be chosen"),
        (Elect((), (), (), 9), "cannot be chosen"),
        (Elect((0, 1), (1, 1), (3,), 9), "forked off another"),
        (Elect((1, 7), (1, 1), (3,), 9), "branch 7 is not known"),
        (Elect((1, 2), (1, 8), (3,), 9), "value 8 is not known"),
    ],
)
def test_an_election_that_means_nothing_is_refused(node: Elect, why: str) -> None:
    driver = played(Fork(0, (1, 2)), key(1, 1), node)
    finished = driver.finished()
    assert finished.code == "usage"
    assert why in finished.message


def test_a_child_begins_again_with_its_text_when_the_engine_is_replaced() -> None:
    def program(driver: Driver) -> None:
        driver.program(*election(1, 2), gen(300, 50, 10), gen(301, 50, 10))

    whole = Driver()
    program(whole)
    whole.run()
    torn = Driver()
    program(torn)
    for _ in range(4):
        torn.step()
    torn.lose_engine()
    torn.replace_engine(FakeEngine(fingerprint=torn.codec.fingerprint))
    torn.run()
    assert torn.values() == whole.values()
