"""Loops, switches and forks over lists in the front: runs of regions, scopes and ends."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.fake_engine import FakeEngine
from tests.fakes.front_driver import Driver

from furcate.protocol.codec import decode_events, encode
from furcate.protocol.graph import (
    Call,
    Carry,
    Case,
    Drop,
    Fill,
    Fork,
    ForkOver,
    Gen,
    Join,
    Let,
    Loop,
    Node,
    Out,
    Recall,
    Root,
    Select,
    Stop,
    Switch,
    Text,
    TextOf,
    ValueRef,
)
from furcate.protocol.message import Answer, Cancel, Delta, Invoke, Value
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import Hint
from furcate.runtime.graph import Limits
from furcate.runtime.testing import ContextModel, make_scheduler


def gen(value: int, branch: int = 0, max_tokens: int = 3) -> Gen:
    return Gen(branch, value, 1, Sampling(max_tokens=max_tokens, ignore_eos=True))


def modelled() -> Driver:
    return Driver(make_scheduler(ContextModel()))


def played(*nodes: Node, driver: Driver | None = None, stream: bool = False) -> Driver:
    driver = driver or modelled()
    driver.program(*nodes, stream=stream)
    driver.run()
    assert driver.finished().code is None, driver.finished()
    return driver


BODY = (Text(0, "step "), gen(1), Fork(0, (1,)), Text(1, "!"), gen(2, 1), Fill(0, 2))


def unrolled(times: int) -> list[Node]:
    nodes: list[Node] = [Text(0, "x")]
    for i in range(times):
        child, one, two = 1 + i, 10 + 2 * i, 11 + 2 * i
        nodes += [Text(0, "step "), gen(one), Fork(0, (child,)), Text(child, "!"), gen(two, child)]
        nodes.append(Fill(0, two))
    return nodes


@pytest.mark.parametrize("times", [1, 2, 4])
def test_a_loop_is_its_body_so_often_draw_for_draw(times: int) -> None:
    rest = (Fork(0, (90,)), gen(91, 90), gen(92), TextOf(0, 93))
    loop = Loop(0, BODY, times, outs=(Out(80, (1,)), Out(81, (2,))))
    values = played(Text(0, "x"), loop, *rest).values()
    by_hand = played(*unrolled(times), *rest).values()
    assert [values[i] for i in (91, 92, 93)] == [by_hand[i] for i in (91, 92, 93)]
    assert (values[80], values[81]) == (by_hand[8 + 2 * times], by_hand[9 + 2 * times])
    assert 1 not in values, "values inside are told to those who stream"


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(0, 5), st.integers(0, 12))
def test_however_the_program_is_cut_and_whenever_it_comes(times: int, cut: int, run: int) -> None:
    """A fork that is recorded before a loop has run counts behind the loop's own."""
    rest = (Fork(0, (90,)), gen(91, 90), gen(92), TextOf(0, 93))
    nodes = (Text(0, "x"), Loop(0, BODY, times), *rest)
    driver = modelled()
    driver.program(*nodes[:cut], done=False)
    for _ in range(run):
        driver.step()
    driver.program(*nodes[cut:], epoch=1)
    driver.run()
    assert driver.values() == played(*nodes).values()


def test_a_program_that_streams_hears_of_every_run() -> None:
    driver = played(Text(0, "x"), Loop(0, (gen(1), Text(0, ";")), 3), TextOf(0, 9), stream=True)
    runs = [event.data for event in driver.of(Value) if event.value == 1]
    assert driver.values()[9] == "x" + "".join(f"{text};" for text in runs)
    assert driver.deltas(1) == "".join(runs)


def test_children_of_a_fork_over_a_list_are_not_mixed_up_in_a_stream() -> None:
    over = ForkOver(0, 0, 5, (Text(5, "t"), gen(1, 5)), item=2, outs=(Out(3, (1,)),))
    driver = played(Text(0, "x"), Let(0, "list", ("a", "b")), over, stream=True)
    told = [event.data for event in driver.of(Value) if event.value == 1]
    assert sorted(told) == sorted(driver.values()[3])
    assert not driver.of(Delta)


def test_what_is_carried_is_what_the_run_before_had() -> None:
    body = (Let(2, "concat", ("", ValueRef(1), "+")), Fill(0, 2), Text(0, " "))
    loop = Loop(0, body, 3, carried=(Carry(1, 0, 2),), outs=(Out(3, (2,)),))
    driver = played(Let(0, "concat", ("", "a")), loop, TextOf(0, 4))
    assert driver.values()[4] == "a+ a++ a+++ "
    (out,) = [event for event in driver.of(Value) if event.value == 3]
    assert (out.data, out.source) == ("a+++", 2)


def test_a_loop_ends_by_its_condition_by_a_stop_or_when_the_list_is_used_up() -> None:
    def runs(*nodes: Node, **ends: object) -> object:
        driver = played(
            Text(0, "x"),
            Let(0, "list", ("a", "b", "c", "d")),
            Loop(0, (Text(0, "."), *nodes), **{"max_iters": 50} | ends),
            TextOf(0, 99),
        )
        return str(driver.values()[99]).count(".")

    assert runs(max_iters=7) == 7
    assert runs(Let(1, "ge", (ValueRef(2), 2)), until=1, index=2) == 3
    assert runs(over=0) == 4
    assert runs(over=0, max_iters=2) == 2
    last = Switch(0, 3, (Case("b", (Text(0, "-"), Stop(0))), Case(None)))
    assert runs(last, over=0, item=3) == 2
    # What comes behind the switch with the stop still runs.
    assert runs(last, Text(0, "."), over=0, item=3) == 4


def test_the_first_case_that_is_equal_runs_and_gives_its_values() -> None:
    def switch(on: object, *cases: Case) -> Driver:
        driver = modelled()
        value = Let(0, "vote", (on,))
        driver.program(Text(0, "x"), value, Switch(0, 0, cases, (Out(9, (1, 2)),)), TextOf(0, 10))
        driver.run()
        return driver

    def case(when: object, value: int) -> Case:
        return Case(when, (Let(value, "concat", ("", f"case {when}")), Fill(0, value)))

    cases = (case(3, 1), case(None, 2))
    assert switch("3", *cases).values()[9] == "case 3"
    assert switch("4", *cases).values()[9] == "case None"
    driver = switch("4", case(3, 1), case("5", 2))
    (failure, out, text) = driver.failures()
    assert (failure.node, failure.value, failure.code) == (2, None, "usage")
    assert "no case of the switch is equal to '4'" in failure.message
    assert (out.value, out.code, text.value, text.code) == (9, "upstream", 10, "upstream")


def test_a_choice_is_compared_by_its_text() -> None:
    select = Select(0, 0, 1, ("yes", "no"))
    cases = (Case("yes", (Text(0, "A"),)), Case("no", (Text(0, "B"),)))
    driver = played(Text(0, "is it "), select, Switch(0, 0, cases), TextOf(0, 1))
    assert str(driver.values()[1]).endswith(("yesA", "noB"))


def test_what_nothing_has_set_fails_alone() -> None:
    cases = (Case("a", (Let(1, "vote", (1,)),)), Case(None))
    driver = played(
        Let(0, "vote", ("b",)),
        Switch(0, 0, cases, (Out(2, (1, None)),)),
        Let(3, "eq", (ValueRef(2), 1)),
        Text(0, "on"),
        gen(4),
    )
    assert [(f.value, f.code, f.branch) for f in driver.failures()] == [
        (2, "unset", None),
        (3, "upstream", None),
    ]
    assert 4 in driver.values()


def test_a_node_inside_that_fails_is_told_with_its_own_ordinal() -> None:
    """Ordinals count depth first: the select below is node 5."""
    bad = Select(0, 5, 1, ("", "x"))
    nodes = (
        Text(0, "x"),
        Let(0, "vote", ("b",)),
        Loop(
            0,
            (Switch(0, 0, (Case("b", (Text(0, "y"), bad)),), (Out(6, (5,)),)),),
            2,
            outs=(Out(7, (6,)),),
        ),
        gen(8),
    )  # fmt: skip
    driver = played(*nodes)
    first, *others = driver.failures()
    assert (first.node, first.value, first.branch, first.code) == (5, None, 0, "usage")
    assert [(f.value, f.code) for f in others] == [(7, "upstream"), (8, "upstream")]
    assert "needs node 5" in others[0].message


def test_children_of_a_list_fail_one_by_one() -> None:
    bad = Switch(5, 2, (Case("b", (Select(5, 6, 1, ("",)),)), Case(None)))
    over = ForkOver(0, 0, 5, (bad, Text(5, "t"), gen(1, 5)), item=2, index=7, outs=(Out(3, (1,)),))
    driver = played(Text(0, "x"), Let(0, "list", ("a", "b", "c")), over, gen(4))
    a, b, c = driver.values()[3]
    assert b is None
    assert isinstance(a, str)
    assert isinstance(c, str)
    assert [f.branch for f in driver.failures()] == [5]
    assert 4 in driver.values()


def test_a_list_may_be_empty_or_the_text_of_an_array_and_must_be_one() -> None:
    def over(value: object) -> Driver:
        node = ForkOver(0, 0, 5, (Fill(5, 2), TextOf(5, 1)), item=2, outs=(Out(3, (1,)),))
        driver = modelled()
        driver.program(Let(0, "vote", (value,)), node)
        driver.run()
        return driver

    assert over("[]").values()[3] == []
    assert over('["a", 1]').values()[3] == ["a", "1"]
    assert "JSON array" in over("word").failures()[0].message


def test_deeper_lists_travel_as_json_in_lists_that_a_message_can_hold() -> None:
    def over(child: int, parent: int, inner: tuple[Node, ...], source: int, out: int) -> ForkOver:
        return ForkOver(parent, 0, child, inner, outs=(Out(out, (source,)),))

    innermost = over(3, 2, (Fill(3, 0), TextOf(3, 1)), 1, 10)
    nested = over(1, 0, (over(2, 1, (innermost,), 10, 11),), 11, 12)
    driver = played(Let(0, "vote", ("[1,2]",)), nested)
    (value,) = [event for event in driver.of(Value) if event.value == 12]
    assert decode_events(encode([value])) == [value]
    row = ['["[1,2]","[1,2]"]'] * 2
    assert value.data == [row, row]


def test_a_call_in_a_loop_is_made_in_each_run() -> None:
    driver = modelled()
    body = (Call(0, 1, 4, (ValueRef(2),)), Fill(0, 1))
    driver.program(Loop(0, body, 3, index=2), TextOf(0, 9))
    for number in range(3):
        invoke = driver.of(Invoke)[-1]
        assert (invoke.call, invoke.args) == (number, (number,))
        driver.send(Answer(0, number, f"<{number}>"))
    assert driver.values()[9] == "<0><1><2>"


# Limits and nonsense -----------------------------------------------------------------------------


def test_runs_are_counted_and_limited() -> None:
    limits = Limits(region_nodes=100, forks=4, region_depth=2)

    def failure(*nodes: Node) -> str:
        driver = Driver(limits=limits)
        driver.program(*nodes)
        driver.run()
        failed = driver.failures()
        return failed[0].message if failed else str(driver.finished().message)

    assert "may run 100 nodes" in failure(Loop(0, (Text(0, "x"),) * 10, 11))
    assert "fork off 4 branches" in failure(Loop(0, (Fork(0, (1, 2)),), 3))
    five = Let(0, "list", tuple("abcde"))
    assert "fork off 4 branches" in failure(five, ForkOver(0, 0, 1))
    deep: tuple[Node, ...] = ()
    for _ in range(3):
        deep = (Loop(0, deep, 1),)
    assert failure(*deep) == ""[:0] or "deep" in failure(*deep)


def test_nodes_inside_count_as_nodes_of_the_program() -> None:
    driver = Driver(limits=Limits(nodes=5))
    driver.program(Loop(0, (Text(0, "x"),) * 5, 1))
    assert driver.finished().code == "capacity"


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ((Stop(0),), "stands in no Loop"),
        ((Loop(0, (), 1, outs=(Out(1, (5, 6)),)),), "2 sources, not 1"),
        ((Switch(0, 7, ()),), "value 7 is not known"),
        ((Loop(0, (gen(1),), 1), Fill(0, 1)), "value 1 is not known"),
        ((Loop(0, (Fork(0, (1,)),), 1), Text(1, "x")), "branch 1 is not known"),
    ],
)
def test_control_flow_that_means_nothing_is_refused(nodes: tuple[Node, ...], why: str) -> None:
    driver = Driver()
    driver.program(Text(0, "x"), *nodes)
    assert why in str(driver.finished().message)


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (Root(3), "cannot stand in a region"),
        (Recall(0, 5, "x"), "cannot stand in a region"),
        (Fill(0, 77), "value 77 is not known"),
        (Text(1, "x"), "branch 1 is not known"),
        (Join(0, (1,)), "branch 1 is not known"),
    ],
)
def test_a_body_that_means_nothing_fails_when_it_runs(node: Node, why: str) -> None:
    driver = Driver()
    driver.program(Fork(0, (1,)), Text(0, "x"), Loop(0, (node,), 2), gen(2))
    driver.run()
    assert any(why in failure.message for failure in driver.failures())
    assert driver.finished().code is None


# Ends --------------------------------------------------------------------------------------------

ENDLESS = (
    Text(0, "x"),
    Let(0, "list", ("a", "b")),
    Loop(0, (gen(1), ForkOver(0, 0, 5, (Text(5, "t"), gen(2, 5)), outs=(Out(3, (2,)),)),
             Let(4, "concat", ("", ValueRef(3))), Fill(0, 4)), 50, outs=(Out(9, (1,)),)),
    gen(10),
)  # fmt: skip


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 9, 14, 23])
def test_a_loop_may_be_cut_off_at_any_time(steps: int) -> None:
    for end in ("cancel", "branch", "deadline", "leave"):
        driver = modelled()
        driver.program(*ENDLESS, timeout_s=5.0)
        for _ in range(steps):
            driver.step()
        match end:
            case "cancel":
                driver.send(Cancel(0))
            case "branch":
                driver.send(Cancel(0, 0))
            case "deadline":
                driver.front.tick(9.0)
                driver.pump()
            case _:
                driver.disconnect_all()
                continue
        driver.run()
        driver.front.check()
        assert {f.value for f in driver.failures()} >= {9, 10}
        driver.finished()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(6, 12), min_size=1, max_size=4))
def test_an_engine_that_is_replaced_goes_on_with_the_run_that_it_was_in(steps: list[int]) -> None:
    def start() -> Driver:
        driver = Driver()
        loop = Loop(0, ENDLESS[2].nodes, 4, outs=(Out(9, (1,)),))  # type: ignore[union-attr]
        driver.program(*ENDLESS[:2], loop, gen(10), TextOf(0, 11), stream=True)
        return driver

    undisturbed, driver = start(), start()
    undisturbed.run()
    for count in steps:  # enough to get past the node, which is no suspect then
        for _ in range(count):
            driver.step()
        driver.lose_engine()
        driver.replace_engine(FakeEngine(max_context=4096))
    driver.run()
    assert driver.values() == undisturbed.values()
    assert driver.deltas(1) == undisturbed.deltas(1)


def test_branches_of_a_run_end_with_it_and_nothing_is_left_open() -> None:
    driver = played(*ENDLESS[:2], Loop(0, (Fork(0, (1, 2)), gen(5, 1), gen(6, 2)), 3), gen(10))
    assert not driver.engine.has_work


def test_a_branch_that_was_dropped_still_runs_its_loops() -> None:
    driver = played(
        Text(0, "x"), Fork(0, (1,)), Loop(1, (gen(2, 1),), 2, outs=(Out(3, (2,)),)), Drop(1)
    )
    assert 3 in driver.values()


def test_the_path_behind_a_stream_counts_what_is_in_regions() -> None:
    driver = Driver()
    cases = (Case("a", (gen(4), gen(5), gen(6))), Case(None))
    driver.program(Text(0, "x"), gen(0), Switch(0, 0, cases), gen(9))
    hint = [request for request in driver.sent if isinstance(request, Hint)][-1]
    assert hint.path == 4
