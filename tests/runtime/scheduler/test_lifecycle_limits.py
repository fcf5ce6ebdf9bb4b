"""Deep families, long streams, slow compilations: whatever the shape, every stream ends once."""

from __future__ import annotations

import pytest
from tests.fakes.streams import SlowCompiler, engine, generate, idle_pages, run, said, text

from furcate.protocol.constraint import Constraint
from furcate.protocol.stream import (
    Append,
    CancelStream,
    DefineConstraint,
    DropConstraint,
    End,
    OpenStream,
)
from furcate.runtime.testing import ContextModel

DEPTH = 2000


@pytest.mark.parametrize("parent_nodes", [0, 1])
def test_a_long_chain_of_forks_branches_off_when_its_first_stream_goes_on(
    parent_nodes: int,
) -> None:
    eng = engine(check_invariants=False)
    eng.send(OpenStream(0, 0))
    eng.send(OpenStream(1, 0, parent=0, parent_nodes=1), Append(1, (text("a"),)))
    for stream in range(2, DEPTH):
        eng.send(
            OpenStream(stream, 0, parent=stream - 1, parent_nodes=parent_nodes),
            Append(stream, (text("a"),)),
        )
    eng.send(Append(0, (text("x"), End())))
    eng.send(Append(DEPTH - 1, (generate(2),)))
    eng.send(*(Append(stream, (End(),)) for stream in range(1, DEPTH)))
    eng.run()
    assert [end.code for end in eng.ended.values()] == [None] * DEPTH
    length = len("x") + 1 + (DEPTH - 2) * parent_nodes
    (done,) = eng.done(DEPTH - 1)
    assert done.usage.prompt == (1 + DEPTH - 1 if parent_nodes else length)


def test_a_long_chain_of_forks_is_cancelled_with_its_first_stream() -> None:
    eng = engine(check_invariants=False)
    eng.send(OpenStream(0, 0))
    eng.send(*(OpenStream(k, 0, parent=k - 1, parent_nodes=1) for k in range(1, DEPTH)))
    eng.send(CancelStream(0))
    eng.run()
    assert list(eng.ended) == list(range(DEPTH))
    assert {end.code for end in eng.ended.values()} == {"cancelled"}


def test_a_long_chain_of_forks_fails_with_its_first_stream() -> None:
    eng = engine(check_invariants=False)
    eng.send(OpenStream(0, 0))
    eng.send(*(OpenStream(k, 0, parent=k - 1, parent_nodes=1) for k in range(1, DEPTH)))
    eng.send(Append(0, (generate(1),)))
    eng.run()
    assert eng.ended[0].code == "usage"
    assert {eng.ended[k].code for k in range(1, DEPTH)} == {"upstream"}


@pytest.mark.slow
def test_thousands_of_generations_that_are_forced_take_no_step_each() -> None:
    eng = engine(ContextModel(max_context=20_000), num_pages=1000, check_invariants=False)
    eng.send(DefineConstraint(1, Constraint(kind="regex", body="abc")))
    done = run(eng, text("x"), *[generate(constraint=1)] * 5000)
    assert {said(d) for d in done} == {"abc"}
    assert len(done) == 5000
    assert eng.num_steps == 1


def test_thousands_of_generations_of_no_tokens_end_in_order() -> None:
    eng = engine(check_invariants=False)
    done = run(eng, text("x"), *[generate(0)] * 2000)
    assert [d.node for d in done] == list(range(1, 2001))
    assert eng.ended[1].code is None


def test_a_constraint_may_be_dropped_while_a_stream_waits_for_it() -> None:
    compiler = SlowCompiler()
    eng = engine(constraints=compiler)
    eng.send(DefineConstraint(1, Constraint(kind="regex", body="a{3}")))
    eng.send(OpenStream(1, 0), Append(1, (text("x"), generate(constraint=1), End())))
    eng.send(DropConstraint(1))
    eng.run()
    assert not eng.ended
    compiler.finish()
    eng.run()
    assert said(eng.done(1)[0]) == "aaa"


def test_a_constraint_that_nobody_defined_costs_its_stream() -> None:
    eng = engine()
    assert run(eng, text("x"), generate(constraint=4)) == []
    assert eng.ended[1].code == "usage"
    assert "4" in (eng.ended[1].message or "")


def test_while_a_constraint_compiles_there_is_nothing_to_do_and_no_page_is_held() -> None:
    compiler = SlowCompiler()
    eng = engine(constraints=compiler)
    eng.send(DefineConstraint(1, Constraint(kind="regex", body="[ab]{3}")))
    eng.send(OpenStream(1, 0), Append(1, (text("some words"), generate(constraint=1), End())))
    eng.run()
    assert not eng.scheduler.has_work
    assert idle_pages(eng) == 256
    compiler.finish()
    assert eng.scheduler.has_work
    eng.run()
    (done,) = eng.done(1)
    assert len(done.ids) == 3
    assert done.usage.reused == 0
    assert done.usage.computed == len("some words") + 2


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_stream_may_be_cancelled_while_its_constraint_compiles(steps: int) -> None:
    compiler = SlowCompiler()
    eng = engine(constraints=compiler, budget_tokens=4)
    eng.send(DefineConstraint(1, Constraint(kind="regex", body="[ab]{3}")))
    eng.send(OpenStream(1, 0), Append(1, (text("some words"), generate(constraint=1), End())))
    for _ in range(steps):
        eng.step()
    eng.send(CancelStream(1))
    compiler.finish()
    eng.run()
    assert eng.ended[1].code == "cancelled"
    assert idle_pages(eng) == 256
