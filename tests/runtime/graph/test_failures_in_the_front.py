"""What a failure takes with it and what it leaves alone, and that every program has one end."""

from __future__ import annotations

import pytest
from tests.fakes.fake_engine import FakeEngine
from tests.fakes.front_driver import Driver

from furcate.errors import ConnectionFailed
from furcate.protocol.constraint import Constraint
from furcate.protocol.graph import (
    Drop,
    Fill,
    Fork,
    Gen,
    Ids,
    Join,
    Let,
    Node,
    Role,
    Root,
    Select,
    Special,
    Text,
    TextOf,
    ValueRef,
)
from furcate.protocol.message import (
    Bye,
    Cancel,
    Constraints,
    Finished,
    Graph,
    Hello,
    Options,
    Refused,
    Release,
    Segments,
    Usage,
    Welcome,
)
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import CancelStream, NodeDone, OpenStream, StreamEnded, Tokens
from furcate.runtime.graph import Front, Limits
from furcate.runtime.tokenize.byte_level import ByteTokenizer

BAD = Constraint(kind="json_schema", body="bad")
GOOD = Constraint(kind="regex", body="a+")
X = (Root(0), Text(0, "x"))


def gen(value: int, branch: int = 0, *, bad: bool = False, **sampling: object) -> Gen:
    wanted = Sampling(**({"max_tokens": 3} | sampling))
    return Gen(branch, value, 1, wanted, 0 if bad else None)


def codes(driver: Driver, program: int = 0) -> dict[int | None, str]:
    return {failed.value: failed.code for failed in driver.failures(program=program)}


def with_constraints() -> Driver:
    driver = Driver()
    driver.send(Constraints(0, (BAD, GOOD)))
    return driver


def test_a_failed_generation_fails_what_follows_on_its_branch_and_no_other() -> None:
    driver = with_constraints()
    driver.program(
        *X,
        gen(0),
        Fork(0, (1,)),
        gen(1, bad=True),
        Fork(0, (2,)),
        gen(2),
        gen(3, branch=1),
        gen(4, branch=2),
        Fork(2, (3,)),
        TextOf(3, 5),
    )
    driver.run()
    assert codes(driver) == {1: "constraint", 2: "upstream", 4: "upstream", 5: "upstream"}
    first = driver.failures()[0]
    assert (first.pointer, first.node, first.branch) == ("/bad", 4, 0)
    assert "node 4" in driver.failures()[1].message
    assert set(driver.values()) == {0, 3}
    assert driver.finished().code is None


def test_a_child_that_begins_before_the_failure_goes_on_even_if_it_comes_after_it() -> None:
    driver = with_constraints()
    driver.program(*X, gen(0), Fork(0, (1,)), gen(1, bad=True), done=False)
    driver.run()
    driver.program(Text(1, "y"), gen(2, branch=1), Fork(1, (2,)), gen(3, branch=2), epoch=1)
    driver.run()
    assert codes(driver) == {1: "constraint"}
    assert set(driver.values()) == {0, 2, 3}
    other = Driver()
    other.program(
        *X, gen(0), Fork(0, (1,)), Text(1, "y"), gen(2, branch=1), Fork(1, (2,)), gen(3, branch=2)
    )
    other.run()
    assert driver.values() == other.values()


def test_a_child_on_its_way_while_its_parent_fails_is_opened_again() -> None:
    driver = with_constraints()
    driver.program(*X, gen(0), Fork(0, (1,)), gen(1, bad=True), done=False)
    reports = []
    while driver.engine.streams:
        reports += driver.engine.step()
    # The front does not know of the failure yet as it sends the child.
    driver.program(gen(2, branch=1), Fork(1, (2,)), gen(3, branch=2, n=2), epoch=1)
    driver.front.handle_engine(reports, 0.0)
    driver.pump()
    driver.run()
    assert codes(driver) == {1: "constraint"}
    assert set(driver.values()) == {0, 2, 3}
    driver.front.check()
    assert driver.front.num_streams == 0
    other = Driver()
    other.program(*X, gen(0), Fork(0, (1,)), gen(2, branch=1), Fork(1, (2,)), gen(3, branch=2, n=2))
    other.run()
    assert driver.values() == other.values()


def test_a_fill_of_a_failed_value_fails_its_branch_and_names_the_cause() -> None:
    driver = with_constraints()
    driver.program(
        *X,
        Fork(0, (1, 2)),
        gen(0, branch=1, bad=True),
        gen(1, branch=2),
        Fill(2, 0),
        gen(2, branch=2),
        Let(3, "strip", (ValueRef(0),)),
        Join(0, (1,)),
        gen(4),
    )
    driver.run()
    failed = {(f.node, f.value): f for f in driver.failures()}
    assert failed[(3, 0)].code == "constraint"
    assert failed[(5, None)].code == "upstream"  # the Fill itself
    assert failed[(6, 2)].code == "upstream"
    assert failed[(7, 3)].code == "upstream"
    assert failed[(8, None)].code == "upstream"  # the Join
    assert failed[(9, 4)].code == "upstream"
    assert all("node 3: constraint" in f.message for f in failed.values() if f.code == "upstream")
    assert set(driver.values()) == {1}
    assert driver.finished().code is None


@pytest.mark.parametrize(
    ("node", "code", "words"),
    [
        (gen(9, temperature=-1.0), "usage", "temperature"),
        (gen(9, n=17), "usage", "n must be"),
        (gen(9, stop=("",)), "usage", "stop string"),
        (gen(9, stop_token_ids=(10**6,)), "usage", "stop_token_ids: 1000000 is no token id"),
        (gen(9, logit_bias={10**6: 1.0}), "usage", "logit_bias: 1000000 is no token id"),
        (Select(0, 9, 1, ()), "usage", "choices"),
        (Select(0, 9, 1, ("a", "")), "usage", "empty"),
        (Select(0, 9, 1, ("a", "a")), "usage", "same tokens"),
        (Select(0, 9, 1, ("a",), temperature=-1.0), "usage", "temperature"),
        (Select(0, 9, 1, tuple(map(str, range(300)))), "usage", "256"),
        (Special(0, "<|nope|>"), "usage", "<|nope|>"),
        (Ids(0, (5, 300)), "usage", "300"),
        (Role(0, "user", "end"), "usage", "open role"),
        (Role(0, "a b", "begin"), "template", "a b"),
        (Fill(0, 0), "usage", "list"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_a_wrong_node_fails_alone_with_its_reason(node: Node, code: str, words: str) -> None:
    driver = Driver()
    driver.program(*X, Fork(0, (1,)), gen(0, n=2), node, gen(1), gen(2, branch=1))
    driver.run()
    failed = {f.node: f for f in driver.failures()}
    assert failed[4].code == code
    assert words in failed[4].message
    assert (failed[5].code, failed[5].value) == ("upstream", 1)
    assert set(driver.values()) == {0, 2}
    assert driver.finished().code is None


def test_a_model_without_a_template_fails_the_role_and_says_what_to_do() -> None:
    driver = Driver(codec=ByteTokenizer(chat_template=None))
    driver.program(*X, Role(0, "user", "begin"), gen(0))
    assert driver.failures()[0].code == "template"
    assert "without roles" in driver.failures()[0].message


def test_a_prompt_longer_than_the_context_fails_before_the_engine_sees_it() -> None:
    driver = Driver(max_context=10)
    driver.program(Root(0), Text(0, "x" * 8), gen(0), Text(0, "xyz"), gen(1), program=0)
    driver.program(Root(0), Text(0, "x" * 1000), Fork(0, (1,)), gen(0, branch=1), program=1)
    assert [f.code for p in (0, 1) for f in driver.failures(program=p)] == ["capacity"] * 2
    assert "11 tokens" in driver.failures()[0].message
    assert driver.failures()[0].value == 1
    driver.run()
    assert set(driver.values()) == {0}
    assert driver.finished(program=1).code is None


def test_what_the_engine_cannot_extend_fails_the_value_that_needed_it() -> None:
    driver = Driver()
    driver.program(*X, Fork(0, (1,)), gen(0, branch=1), gen(1))
    stream = driver.engine.streams[0]
    driver.engine._end(stream, "capacity", "the KV cache holds 0")
    driver.run()
    assert codes(driver)[0] in ("capacity", "upstream")
    assert codes(driver)[1] == "capacity"
    assert driver.finished().code is None


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ((Text(1, "x"),), "branch 1"),
        ((Root(0),), "branch 0 exists"),
        ((Text(0, 3),), "segment 3"),
        ((Gen(0, 9, 1, Sampling(), 7),), "constraint 7"),
        ((Fill(0, 9),), "value 9"),
        ((gen(5), gen(5)), "value 5 exists"),
        ((Let(9, "strip", (ValueRef(8),)),), "value 8"),
        ((Fork(0, (0,)),), "branch 0 exists"),
        ((Fork(0, (1,)), Fork(1, (2,)), Join(0, (2,))), "not its parent"),
        ((Fork(0, (1,)), Join(0, (1, 1))), "not all different"),
        ((Drop(0), Text(0, "x")), "dropped"),
        ((Root(1, model="other"),), "'other'"),
        ((Fork(0, tuple(range(1, 258))),), "256"),
        (tuple(Text(0, "x") for _ in range(10_001)), "10000"),
    ],
)
def test_a_program_that_makes_no_sense_is_refused_alone(
    nodes: tuple[Node, ...], words: str
) -> None:
    driver = Driver()
    driver.program(*X, gen(0), program=1)
    driver.program(*X, gen(0), done=False)
    driver.program(*nodes, gen(7), epoch=1)
    driver.program(gen(8), epoch=2)
    driver.run()
    finished = driver.finished()
    assert finished.code in ("usage", "capacity", "model")
    assert words in str(finished.message)
    told = codes(driver)
    assert told[0] == told[7] == told[8] == finished.code
    assert driver.finished(program=1).code is None
    assert not driver.of(Refused)


def test_a_node_after_done_refuses_the_program() -> None:
    driver = Driver()
    driver.program(*X, gen(0))
    driver.program(Text(0, "x"), epoch=1)
    driver.run()
    assert driver.finished().code == "usage"


def test_deltas_are_taken_once_and_in_order() -> None:
    driver = Driver()
    driver.program(*X, gen(0), done=False)
    driver.program(*X, gen(0), done=False)
    driver.program(gen(1), epoch=1, done=False)
    driver.program(gen(1), epoch=1, done=False)
    driver.program(gen(2), epoch=3, done=False)
    driver.run()
    assert driver.finished().code == "usage"
    assert "delta 3" in str(driver.finished().message)
    driver.send(Graph(5, 1, (Root(0),), True, Options(seed=1)))
    assert driver.finished(program=5).code == "usage"
    driver.send(Graph(6, 0, (Root(0),), True))
    assert driver.finished(program=6).code == "usage"


def test_cancel_ends_a_program_once_and_its_streams() -> None:
    driver = Driver()
    driver.program(*X, gen(0, max_tokens=99), gen(1, n=2), done=False)
    driver.step()
    driver.send(Cancel(0), Cancel(0))
    assert codes(driver) == {0: "cancelled", 1: "cancelled"}
    assert not driver.of(Finished)
    driver.run()
    assert driver.finished().code == "cancelled"
    assert driver.finished().usage.computed > 0
    driver.send(Cancel(0), Cancel(77))
    driver.program(gen(2), TextOf(0, 3), epoch=1)
    assert codes(driver)[2] == codes(driver)[3] == "cancelled"
    driver.finished()


def test_cancel_of_a_branch_takes_its_children_and_leaves_the_rest() -> None:
    driver = Driver()
    driver.program(
        *X,
        Fork(0, (1, 2)),
        gen(0, branch=1, n=2),
        Fork(1, (3,)),
        gen(1, branch=3),
        gen(2, branch=2),
        Fill(2, 1),
        gen(3),
    )
    driver.send(Cancel(0, 1), Cancel(0, 1), Cancel(0, 88))
    driver.run()
    assert codes(driver) == {0: "cancelled", 1: "cancelled", None: "upstream"}
    assert set(driver.values()) == {2, 3}
    assert driver.finished().code is None
    assert len({r.stream for r in driver.sent if isinstance(r, CancelStream)}) == 3


def test_a_branch_cancelled_before_its_birth_stays_so() -> None:
    driver = Driver()
    driver.program(*X, gen(0), Fill(0, 0), Fork(0, (1,)), gen(1, branch=1), gen(2))
    driver.send(Cancel(0, 1))
    driver.run()
    assert codes(driver) == {1: "cancelled"}
    assert set(driver.values()) == {0, 2}


def test_release_tells_nothing_more_and_leaves_nothing() -> None:
    driver = Driver()
    driver.program(*X, gen(0, max_tokens=99))
    driver.step()
    told = len(driver.events["a"])
    driver.send(Release((0, 5)))
    driver.run()
    assert len(driver.events["a"]) == told
    assert (driver.front.num_programs, driver.front.num_streams) == (0, 0)


def test_a_deadline_ends_the_program_at_once() -> None:
    driver = Driver()
    driver.program(*X, gen(0, max_tokens=99), timeout_s=2.0)
    driver.program(*X, gen(0, max_tokens=99), timeout_s=1.0, program=1)
    assert driver.front.next_deadline() == 1.0
    driver.front.tick(0.5)
    driver.front.tick(1.0)
    driver.pump()
    assert driver.finished(program=1).code == "deadline"
    assert codes(driver, 1) == {0: "deadline"}
    assert not driver.of(Finished)
    assert driver.front.next_deadline() == 2.0
    driver.run()
    driver.finished(program=1)
    assert driver.finished().code is None
    assert driver.front.next_deadline() is None


def test_a_lost_engine_ends_every_open_program_and_a_new_one_serves_again() -> None:
    driver = with_constraints()
    driver.program(*X, gen(0, max_tokens=99), gen(1))
    driver.program(*X, TextOf(0, 0), program=1)
    driver.front.engine_lost("the engine ended with signal 9")
    driver.pump()
    assert codes(driver) == {0: "engine_lost", 1: "engine_lost"}
    assert driver.finished().code == "engine_lost"
    assert driver.finished(program=1).code is None
    driver.program(*X, program=2)
    assert driver.finished(program=2).code == "engine_lost"
    late = [StreamEnded(0, Usage(), None)]
    driver.front.handle_engine(late, 0.0)
    driver.engine = FakeEngine()
    driver.front.handle_engine([driver.engine.ready()], 0.0)
    driver.pump()
    assert len(driver.engine.constraints) == 2
    driver.program(*X, gen(0), program=3)
    driver.run()
    assert driver.finished(program=3).code is None


def test_the_handshake_comes_first_and_names_the_versions() -> None:
    driver = Driver()
    assert isinstance(driver.events["a"][0], Welcome)
    driver.front.connect("b")
    driver.send(Graph(0, 0, (), True, Options(seed=1)), client="b")
    driver.front.connect("c")
    driver.send(Hello(99, "old"), Bye(), client="c")
    for client, words in (("b", "Hello"), ("c", "99")):
        (refused,) = driver.events[client]
        assert isinstance(refused, Refused)
        assert words in refused.message
        assert driver.front.is_closed(client)
    assert not driver.front.is_closed("a")


@pytest.mark.parametrize(
    "request_",
    [
        Segments(1, ("x",)),
        Constraints(3, (GOOD,)),
        Hello(1, "again"),
        Segments(0, ("x" * 11,)),
        Constraints(0, tuple(Constraint(kind="regex", body=str(i)) for i in range(3))),
    ],
)
def test_a_connection_that_makes_no_sense_is_refused_and_its_programs_end(
    request_: Segments | Constraints | Hello,
) -> None:
    driver = Driver(limits=Limits(segment_chars=10, constraints=2))
    driver.program(*X, gen(0, max_tokens=99))
    driver.send(request_)
    assert isinstance(driver.events["a"][-1], Refused)
    driver.run()
    assert isinstance(driver.events["a"][-1], Refused)
    assert driver.front.num_streams == 0


def test_equal_constraints_are_defined_once_and_dropped_with_their_last_user() -> None:
    driver = with_constraints()
    driver.connect("b")
    driver.send(Constraints(0, (GOOD,)), client="b")
    assert len(driver.engine.constraints) == 2
    driver.disconnect_all(("a",))
    assert list(driver.engine.constraints.values()) == [GOOD]
    driver.send(Bye(), client="b")
    assert driver.engine.constraints == {}


def test_text_may_not_grow_without_bound() -> None:
    driver = Driver(limits=Limits(derived_chars=1000))
    nodes: list[Node] = [Root(0), Text(0, "x" * 10), TextOf(0, 0)]
    nodes += [Let(i + 1, "concat", ("", ValueRef(i), ValueRef(i))) for i in range(40)]
    driver.program(*nodes)
    assert driver.failures()[0].code == "capacity"
    assert driver.finished().code is None


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (NodeDone(0, 7, (), "eos", Usage()), "node 7"),
        (NodeDone(0, 0, (), "eos", Usage()), "only extends"),
        (Tokens(0, 0, (1,)), "only extends"),
        (NodeDone(0, 2, (1,), "choice", Usage()), "without a winner"),
        (Tokens(0, 2, (1,)), "tokens of a Choose"),
    ],
)
def test_an_engine_that_breaks_the_protocol_costs_the_program_that_it_is_about(
    event: NodeDone | Tokens, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    driver = Driver()
    driver.program(*X, gen(0), Select(0, 1, 1, ("yes", "no")))
    driver.program(*X, gen(0), program=1)
    driver.front.handle_engine([event, event], 0.0)
    driver.pump()
    driver.run()
    assert driver.finished().code == "backend"
    assert words in str(driver.finished().message)
    assert codes(driver) == {0: "backend", 1: "backend"}
    assert driver.finished(program=1).code is None
    assert len(caplog.records) == 1
    assert driver.front.num_streams == 0


def test_a_front_and_an_engine_of_different_tokenizers_do_not_start() -> None:
    with pytest.raises(ConnectionFailed, match="tokenizer"):
        Front(ByteTokenizer(), None, FakeEngine(fingerprint="other").ready())


def test_a_lone_surrogate_fails_its_node_and_nothing_else() -> None:
    driver = Driver()
    driver.program(Root(0), Text(0, "\ud800"), gen(0))
    assert codes(driver) == {0: "usage"}


def test_programs_of_two_clients_do_not_meet() -> None:
    driver = Driver()
    driver.connect("b")
    driver.program(*X, gen(0))
    driver.program(*X, gen(0), client="b")
    opened = [r for r in driver.sent if isinstance(r, OpenStream)]
    assert len({o.stream for o in opened}) == len({o.program for o in opened}) == 2
    driver.front.disconnect("b")
    driver.pump()
    driver.run()
    assert driver.finished().code is None
    assert not [e for e in driver.events["b"] if isinstance(e, Finished)]
