"""The testing tools that users get too: they notice what they are meant to notice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.fakes.streams import engine, generate, run, said, text

from furcate.errors import ModelError
from furcate.protocol.message import Usage
from furcate.protocol.stream import EngineEvent, EngineRequest, NodeDone, StreamEnded
from furcate.runtime.engine.batch import ForwardBatch, PageCopy
from furcate.runtime.testing import (
    ContextModel,
    ManualClock,
    ScriptedModel,
    StepEngine,
    model_named,
    reply_with,
)

PAGE_SIZE = 4


def row(
    ids: bytes, begin: int, table: list[int], copies: tuple[PageCopy, ...] = ()
) -> ForwardBatch:
    """A batch of one row, with logits after its last token."""
    return ForwardBatch(
        token_ids=np.array(list(ids), np.int32),
        positions=np.arange(begin, begin + len(ids), dtype=np.int32),
        row_starts=np.array([0, len(ids)], np.int32),
        kv_lens=np.array([begin + len(ids)], np.int32),
        page_table=np.array([table], np.int32),
        copies=copies,
        logit_indices=np.array([len(ids) - 1], np.int32),
    )


def context_model(*, seed: int = 0) -> ContextModel:
    model = ContextModel(seed=seed)
    model.allocate(8, PAGE_SIZE)
    return model


def logits(*batches: ForwardBatch, seed: int = 0) -> torch.Tensor:
    """What a fresh model says after the last of the batches."""
    model = context_model(seed=seed)
    for batch in batches:
        said = model.forward(batch)
    return said


WHOLE = row(b"abcdef", 0, [0, 1])


def test_a_manual_clock_moves_when_it_is_moved() -> None:
    clock = ManualClock(5.0)
    assert clock.now() == clock.now() == 5.0
    clock.advance(1.5)
    assert clock.now() == 6.5


@pytest.mark.parametrize(
    "batches",
    [
        [row(b"abc", 0, [0]), row(b"def", 3, [0, 1])],
        [row(b"abcdef", 0, [5, 2])],
        [row(b"abcde", 0, [3, 4]), row(b"f", 5, [3, 6], (PageCopy(4, 6, 1),))],
    ],
    ids=["in chunks", "in other pages", "after a copy"],
)
def test_the_context_model_does_not_care_how_a_text_got_into_its_pages(
    batches: list[ForwardBatch],
) -> None:
    assert torch.equal(logits(*batches), logits(WHOLE))


@pytest.mark.parametrize(
    "batches",
    [
        [row(b"abcdef", 0, [0, 1]), row(b"f", 5, [0, 2])],
        [row(b"bacdef", 0, [0, 1])],
        [row(b"abcd", 0, [0]), row(b"ef", 3, [0, 1])],
        [row(b"abcde", 0, [0, 1]), row(b"xy", 0, [1]), row(b"f", 5, [0, 1])],
        [row(b"abcde", 0, [3, 4]), row(b"f", 5, [3, 6])],
        [row(b"abcdef", 0, [1, 1])],
    ],
    ids=["wrong page", "wrong order", "wrong slot", "overwritten", "not copied", "page twice"],
)
def test_the_context_model_notices_a_wrong_page_slot_or_order(batches: list[ForwardBatch]) -> None:
    assert not torch.equal(logits(*batches), logits(WHOLE))


def test_context_models_of_two_seeds_say_different_things() -> None:
    assert not torch.equal(logits(WHOLE, seed=1), logits(WHOLE, seed=2))


def test_a_row_says_the_same_beside_others() -> None:
    both = ForwardBatch(
        token_ids=np.array(list(b"abcdefxyz"), np.int32),
        positions=np.array([*range(6), *range(3)], np.int32),
        row_starts=np.array([0, 6, 9], np.int32),
        kv_lens=np.array([6, 3], np.int32),
        page_table=np.array([[0, 1], [2, 0]], np.int32),
        copies=(),
        logit_indices=np.array([5, 8], np.int32),
    )
    together = logits(both)
    assert torch.equal(together[:1], logits(WHOLE))
    assert torch.equal(together[1:], logits(row(b"xyz", 0, [4])))


def test_models_count_their_forwards_and_tokens() -> None:
    model = context_model()
    model.forward(row(b"abc", 0, [0]))
    model.forward(row(b"d", 3, [0]))
    assert (model.num_forwards, model.num_tokens) == (2, 4)


def test_a_script_answers_the_key_that_came_last() -> None:
    model = ScriptedModel(reply_with({"one": "first", "two": "second"}))
    done = run(engine(model), text("one two"), generate(), text("one"), generate())
    assert [said(each) for each in done] == ["second", "first"]


def test_a_script_ends_at_once_where_no_key_occurs() -> None:
    (done,) = run(engine(ScriptedModel(reply_with({"one": "first"}))), text("three"), generate())
    assert (done.ids, done.finish) == ((), "eos")


def test_test_models_have_names_and_others_are_refused() -> None:
    assert isinstance(model_named("context"), ContextModel)
    (done,) = run(engine(model_named("endless")), text("x"), generate(5))
    assert said(done) == "aaaaa"
    with pytest.raises(ModelError, match="'unheard'"):
        model_named("unheard")


class Recorded:
    """A scheduler that says what it is told to, one list a step."""

    def __init__(self, *steps: list[EngineEvent]) -> None:
        self._steps = list(steps)

    def handle(self, requests: list[EngineRequest]) -> None:
        raise AssertionError("nothing is sent here")

    @property
    def has_work(self) -> bool:
        return bool(self._steps)

    def step(self) -> list[EngineEvent]:
        return self._steps.pop(0)


ENDED = StreamEnded(1, Usage())
SPOKEN = NodeDone(1, 0, (), "eos", Usage())


@pytest.mark.parametrize(
    "steps", [[[ENDED, ENDED]], [[ENDED], [ENDED]], [[ENDED, SPOKEN]], [[ENDED], [SPOKEN]]]
)
def test_a_stream_that_speaks_after_its_end_is_noticed(steps: list[list[EngineEvent]]) -> None:
    stepper = StepEngine(Recorded(*steps))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="stream 1 spoke after its end"):
        stepper.run()


def test_a_stream_that_ends_once_after_all_it_said_is_in_order() -> None:
    stepper = StepEngine(Recorded([SPOKEN], [ENDED]))  # type: ignore[arg-type]
    assert stepper.run() == [SPOKEN, ENDED]
    assert stepper.done(1) == [SPOKEN]
    assert stepper.ended == {1: ENDED}


def test_an_engine_that_is_never_done_is_noticed() -> None:
    stepper = StepEngine(Recorded(*[[] for _ in range(20)]))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="still busy after 10 steps"):
        stepper.run(max_steps=10)
