"""Log-probabilities of prompts, whatever happens around them: forced output, retraction, forks."""

from __future__ import annotations

import pytest
from tests.fakes.streams import engine, generate, mislead, run, text

from furcate.protocol.constraint import Constraint
from furcate.protocol.stream import Append, DefineConstraint, End, OpenStream, RawLogprob
from furcate.runtime.testing import ContextModel

WORDS = "a prompt of this length"


def prompt_scores(words: str, num_top: int = 0) -> tuple[RawLogprob, ...]:
    (done,) = run(
        engine(ContextModel(end_ids=())), text(words), generate(0, prompt_logprobs=num_top)
    )
    assert done.prompt_logprobs is not None
    assert len(done.prompt_logprobs) == len(words)
    return done.prompt_logprobs


@pytest.mark.parametrize("jump_forward", [True, False])
def test_a_prompt_before_a_forced_output_has_its_log_probabilities(jump_forward: bool) -> None:
    eng = engine(ContextModel(end_ids=()), jump_forward=jump_forward, budget_tokens=8)
    eng.send(DefineConstraint(1, Constraint(kind="regex", body="abc")))
    (done,) = run(eng, text(WORDS), generate(constraint=1, prompt_logprobs=0))
    assert bytes(done.ids) == b"abc"
    assert done.prompt_logprobs == prompt_scores(WORDS)
    assert done.usage.forced == 3


def test_each_generation_has_as_many_alternatives_as_it_asked_for() -> None:
    nodes = [generate(1, prompt_logprobs=num_top) for num_top in (0, 2, 1)]
    done = run(engine(ContextModel(end_ids=())), text(WORDS), *nodes)
    for node, num_top in zip(done, (0, 2, 1), strict=True):
        assert node.prompt_logprobs is not None
        assert len(node.prompt_logprobs) == node.usage.prompt
        assert {len(lp.top) for lp in node.prompt_logprobs[1:]} == {num_top}
    assert done[1].prompt_logprobs is not None
    assert done[1].prompt_logprobs[: len(WORDS)] == prompt_scores(WORDS, 2)


def test_streams_that_are_retracted_have_the_same_log_probabilities() -> None:
    outputs = []
    for num_pages in (400, 18):
        eng = engine(ContextModel(end_ids=()), num_pages=num_pages, page_size=4, budget_tokens=16)
        mislead(eng)
        for stream in range(4):
            eng.send(
                OpenStream(stream, stream),
                Append(
                    stream,
                    (
                        text(f"{stream} {WORDS}"),
                        generate(9, prompt_logprobs=1, site=1),
                        generate(9, prompt_logprobs=1, site=1),
                        End(),
                    ),
                ),
            )
        eng.run()
        outputs.append([[d.prompt_logprobs for d in eng.done(stream)] for stream in range(4)])
    assert eng.scheduler.batcher.retractions > 0
    assert outputs[0] == outputs[1]
