"""With a forward in flight while the next is planned, nothing that is said changes."""

from __future__ import annotations

import pytest
from tests.fakes.streams import engine, generate, idle_pages, run, said, text

from furcate.protocol.constraint import Constraint
from furcate.protocol.stream import (
    Append,
    CancelStream,
    Choose,
    DefineConstraint,
    End,
    OpenStream,
    StreamNode,
)
from furcate.runtime.testing import ContextModel, ScriptedModel, StepEngine, reply_with

CHOICES = Choose((tuple(b"yes"), tuple(b"yesterday"), tuple(b"no")), 1)
REGEX = DefineConstraint(1, Constraint(kind="regex", body="(alpha|beta)( and more)?"))


class Calls(list[str]):
    """What an engine's executor is asked for, in order."""

    def __init__(self, eng: StepEngine) -> None:
        super().__init__()
        executor = eng.scheduler._executor
        submit, draw, collect = executor.submit, executor.draw, executor.collect

        def submits(*args):  # type: ignore[no-untyped-def]
            seq = submit(*args)
            self.append(f"submit {seq}")
            return seq

        def draws(seq, draws):  # type: ignore[no-untyped-def]
            self.append(f"draw {seq}")
            draw(seq, draws)

        def collects(seq):  # type: ignore[no-untyped-def]
            self.append(f"collect {seq}")
            return collect(seq)

        executor.submit, executor.draw, executor.collect = submits, draws, collects  # type: ignore[method-assign]


def test_the_next_forward_is_there_before_the_one_before_it_is_waited_for() -> None:
    eng = engine(ContextModel(end_ids=()), overlap=True)
    calls = Calls(eng)
    run(eng, text("once"), generate(4))
    assert calls == [
        "submit 1",
        *("submit 2", "collect 1"),
        *("submit 3", "collect 2"),
        *("submit 4", "collect 3"),
        "collect 4",
    ]


def test_masks_are_made_while_their_forward_runs_and_its_successor_reads_what_they_allow() -> None:
    eng = engine(overlap=True, jump_forward=False)
    calls = Calls(eng)
    eng.send(REGEX)
    (done,) = run(eng, text("once"), generate(5, constraint=1))
    assert said(done) in ("alpha", "beta", "beta ")
    at = calls.index("draw 2")
    assert calls[at - 1 : at + 3] == ["collect 1", "draw 2", "submit 3", "collect 2"]


@pytest.mark.parametrize("max_tokens", [1, 2, 5])
def test_an_end_that_is_certain_computes_nothing_beyond_it(max_tokens: int) -> None:
    eng = engine(ContextModel(end_ids=()), overlap=True)
    (done,) = run(eng, text("once"), generate(max_tokens))
    assert done.finish == "length"
    assert eng.ended[1].usage.computed == len("once") + max_tokens - 1


def test_an_end_that_nobody_foresaw_costs_one_token() -> None:
    eng = engine(ScriptedModel(reply_with({"once": "upon"})), overlap=True)
    (done,) = run(eng, text("once"), generate())
    assert (said(done), done.finish) == ("upon", "eos")
    assert eng.ended[1].usage.computed == len("onceupon") + 1


def test_text_behind_a_last_token_is_read_with_it() -> None:
    """ "once" and its token; that token, "then" and the next one; that one alone."""
    eng = engine(ContextModel(end_ids=()), overlap=True)
    calls = Calls(eng)
    first, second = run(eng, text("once"), generate(1), text("then"), generate(2))
    assert [call for call in calls if call.startswith("submit")] == [
        f"submit {n}" for n in range(1, 4)
    ]
    alone = run(
        engine(ContextModel(end_ids=())), text("once"), generate(1), text("then"), generate(2)
    )
    assert [first.ids, second.ids] == [done.ids for done in alone]


def test_text_behind_a_last_token_that_is_an_end_is_read_again() -> None:
    nodes = (text("once"), generate(1), text("then"), generate(3))
    script = reply_with({"once": "", "then": "so"})
    found = run(engine(ScriptedModel(script), overlap=True), *nodes)
    assert [said(done) for done in found] == ["", "so"]


PIPELINES: dict[str, tuple[StreamNode, ...]] = {
    "text": (text("a long text, read in several pieces "),),
    "generation": (text("once"), generate(6)),
    "two generations": (text("once"), generate(3), generate(3)),
    "constraint": (text("once"), generate(12, constraint=1), text(" then "), generate(2)),
    "choice": (text("is it? "), CHOICES, generate(2)),
    "choice behind a generation": (text("is it "), generate(2), CHOICES, text("!"), generate(1)),
    "stop string": (text("once"), generate(12, stops=(b"e",)), text("then"), generate(2)),
    "penalty": (text("once"), generate(8, temperature=0.8, logprobs=2)),
    "prompt": (text("once upon"), generate(2, prompt_logprobs=1)),
}


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("jump_forward", [True, False])
@pytest.mark.parametrize("budget_tokens", [5, 512])
def test_overlap_changes_no_token(name: str, jump_forward: bool, budget_tokens: int) -> None:
    said = []
    for overlap in (False, True):
        eng = engine(jump_forward=jump_forward, budget_tokens=budget_tokens, overlap=overlap)
        eng.send(REGEX)
        done = run(eng, *PIPELINES[name])
        assert eng.ended[1].code is None
        said.append([(each.ids, each.finish, each.logprobs, each.choice) for each in done])
        assert idle_pages(eng) == 256
    assert said[0] == said[1]


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("steps", range(8))
def test_a_stream_cancelled_in_any_state_leaves_its_siblings_and_no_page(
    name: str, steps: int
) -> None:
    nodes = PIPELINES[name]
    eng = engine(budget_tokens=8, overlap=True)
    eng.send(REGEX)
    for stream in (1, 2, 3):
        eng.send(OpenStream(stream, 0), Append(stream, (*nodes, End())))
    for _ in range(steps):
        eng.step()
    eng.send(CancelStream(2))
    eng.step()
    held = eng.scheduler.batcher.cache.stats()
    eng.run()
    if 2 in eng.ended and eng.ended[2].code == "cancelled":
        assert held.leases <= 2 * 5  # those of streams 1 and 3, a choice's branches included
    alone = engine()
    alone.send(REGEX)
    expected = [(done.ids, done.finish) for done in run(alone, *nodes)]
    for stream in (1, 3):
        assert [(done.ids, done.finish) for done in eng.done(stream)] == expected
    assert idle_pages(eng) == 256


def test_forks_that_begin_by_drawing_compute_the_last_token_before_it_once() -> None:
    model = ContextModel(end_ids=())
    eng = engine(model, overlap=True)
    eng.send(OpenStream(1, 0))
    for child in range(2, 10):
        eng.send(OpenStream(child, 0, parent=1, parent_nodes=1))
        eng.send(Append(child, (generate(1, seed=child, temperature=1.0), End())))
    eng.send(Append(1, (text("one prompt for all"), End())))
    eng.run()
    assert model.num_tokens == len("one prompt for all")
    assert sum(end.usage.computed for end in eng.ended.values()) == model.num_tokens
    for child in range(2, 10):
        (alone,) = run(
            engine(ContextModel(end_ids=())),
            text("one prompt for all"),
            generate(1, seed=child, temperature=1.0),
        )
        assert eng.done(child)[0].ids == alone.ids


def test_forks_behind_a_reply_compute_its_tokens_once() -> None:
    model = ContextModel(end_ids=())
    eng = engine(model, overlap=True)
    eng.send(OpenStream(1, 0), Append(1, (text("a prompt"), generate(6))))
    for child in (2, 3, 4):
        eng.send(OpenStream(child, 0, parent=1, parent_nodes=2))
        eng.send(Append(child, (generate(1, seed=child, temperature=1.0), End())))
    eng.send(Append(1, (End(),)))
    eng.run()
    assert model.num_tokens == len("a prompt") + 6
