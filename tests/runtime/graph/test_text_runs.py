"""What ends a text run and what does not, by the ids that the engine is given.

In the toy vocabulary "hello" is one token where it is tokenised as a whole, and four in two parts.
"""

from __future__ import annotations

import pytest
from tests.fakes.front_driver import Driver
from tests.fakes.toy_bpe import toy_bpe

from furcate.protocol.graph import (
    Drop,
    Fill,
    Fork,
    Gen,
    Ids,
    Let,
    Mark,
    Node,
    Pin,
    Role,
    Save,
    Score,
    Select,
    Special,
    Text,
)
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import Append, Extend, Generate
from furcate.runtime.testing import ContextModel, make_scheduler

CODEC = toy_bpe()
SHORT = Sampling(max_tokens=1, temperature=0.0)
WHOLE = CODEC.encode("hello")
PARTS = [*CODEC.encode("hel"), *CODEC.encode("lo")]


def gen(value: int, branch: int = 0) -> Gen:
    return Gen(branch, value, 1, SHORT)


def driver_over_the_scheduler() -> Driver:
    model = ContextModel(CODEC.vocab_size, likely=range(3, 200), end_ids=(0,))
    return Driver(make_scheduler(model, codec=CODEC), codec=CODEC)


def given(driver: Driver, stream: int | None = None) -> list[int]:
    """The ids that a stream was extended with; if none is named, the one that generates last."""
    appends = [request for request in driver.sent if isinstance(request, Append)]
    if stream is None:
        stream = [a.stream for a in appends if any(isinstance(n, Generate) for n in a.nodes)][-1]
    return [
        token_id
        for request in appends
        if request.stream == stream
        for node in request.nodes
        if isinstance(node, Extend)
        for token_id in node.ids
    ]


def ids_of(*nodes: Node) -> list[int]:
    driver = driver_over_the_scheduler()
    driver.program(*nodes)
    driver.run()
    assert driver.finished().code is None
    assert not driver.failures()
    return given(driver)


def test_the_vocabulary_tells_the_two_apart() -> None:
    assert (len(WHOLE), len(PARTS)) == (1, 4)


@pytest.mark.parametrize(
    "between",
    [
        pytest.param((), id="nothing"),
        pytest.param((Mark(0, 5, "begin"), Mark(0, 5, "end")), id="a mark"),
        pytest.param((Save(0, "session"),), id="a save"),
        pytest.param((Pin(0, 5, "pin"),), id="a pin"),
        pytest.param((Let(5, "concat", ("", "a")),), id="a let"),
    ],
)
def test_what_looks_at_a_run_does_not_end_it(between: tuple[Node, ...]) -> None:
    assert ids_of(Text(0, "hel"), *between, Text(0, "lo"), gen(9)) == WHOLE


def test_a_fill_is_tokenised_with_its_neighbours() -> None:
    fill = (Let(5, "concat", ("", "l")), Text(0, "he"), Fill(0, 5), Text(0, "lo"))
    assert ids_of(*fill, gen(9)) == WHOLE


def test_a_mark_over_a_part_of_a_token_is_that_part_of_the_text() -> None:
    driver = driver_over_the_scheduler()
    marked = (Mark(0, 5, "begin"), Text(0, "el"), Mark(0, 5, "end"))
    driver.program(Text(0, "h"), *marked, Text(0, "lo"), gen(9))
    driver.run()
    assert driver.values()[5] == "el"
    assert given(driver) == WHOLE


def test_the_end_of_a_delta_does_not_end_a_run() -> None:
    driver = driver_over_the_scheduler()
    driver.program(Text(0, "hel"), done=False)
    driver.run()
    driver.program(Text(0, "lo"), gen(9), epoch=1)
    driver.run()
    assert given(driver) == WHOLE


def test_a_drop_of_another_branch_does_not_end_a_run() -> None:
    head = (Fork(0, (1,)), Text(0, "hel"), Drop(1), Text(0, "lo"))
    assert ids_of(*head, gen(9)) == WHOLE


@pytest.mark.parametrize(
    "between",
    [
        pytest.param((gen(5),), id="a gen"),
        pytest.param((Score(0, 5, " x"),), id="a score"),
        pytest.param((Select(0, 5, 1, (" x",)),), id="a select"),
        pytest.param((Ids(0, (4,)),), id="ids"),
        pytest.param((Special(0, "<|im_end|>"),), id="a special token"),
        pytest.param((Fork(0, (1,)),), id="a fork"),
    ],
)
def test_what_a_run_ends_at(between: tuple[Node, ...]) -> None:
    exact = [node.ids[0] for node in between if isinstance(node, Ids)]
    exact += [CODEC.control(node.name) for node in between if isinstance(node, Special)]
    head = CODEC.encode("hel")
    expected = [*head, *exact, *PARTS[len(head) :]]
    assert ids_of(Text(0, "hel"), *between, Text(0, "lo"), gen(9)) == expected


def test_a_child_begins_a_run_of_its_own() -> None:
    driver = driver_over_the_scheduler()
    driver.program(Text(0, "hel"), Fork(0, (1,)), Text(1, "lo"), gen(9, branch=1))
    driver.run()
    assert given(driver, 0) + given(driver, 1) == PARTS


def test_a_run_ends_at_the_control_tokens_of_a_role() -> None:
    ids = ids_of(
        Text(0, "hel"), Role(0, "user", "begin"), Text(0, "lo"), Role(0, "user", "end"), gen(9)
    )
    start, end = CODEC.control("<|im_start|>"), CODEC.control("<|im_end|>")
    inside = ids[ids.index(start) + 1 : ids.index(end)]
    assert ids[: ids.index(start)] == CODEC.encode("hel")
    assert inside == CODEC.encode("user\nlo")


def test_marks_of_any_kind_change_no_id_and_no_value() -> None:
    turn = [
        Role(0, "user", "begin"),
        Text(0, "hel"),
        Text(0, "lo"),
        Role(0, "user", "end"),
        Role(0, "assistant", "begin"),
        gen(0),
        Text(0, "hello"),
        gen(1),
        Role(0, "assistant", "end"),
    ]
    plain = driver_over_the_scheduler()
    plain.program(*turn)
    plain.run()
    marked = driver_over_the_scheduler()
    nodes: list[Node] = []
    for place, node in enumerate(turn):
        nodes += [Mark(0, 10 + place, "begin"), node, Mark(0, 10 + place, "end")]
    marked.program(Mark(0, 9, "begin"), *nodes, Mark(0, 9, "end"))
    marked.run()
    assert given(marked) == given(plain)
    values = marked.values()
    assert {0: values[0], 1: values[1]} == plain.values()
    assert values[9] == "".join(str(values[10 + place]) for place in range(len(turn)))
    assert [values[11], values[12], values[15], values[16]] == ["hel", "lo", values[0], "hello"]
