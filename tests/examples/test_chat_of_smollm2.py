"""A conversation on the embedded model: at once, as a stream, and continued by another program."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import furcate as fc

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.smollm2, pytest.mark.slow, pytest.mark.timeout(120)]

QUESTIONS = ("What is the capital of France?", "Name two sights there.")


@fc.function
def multi_turn(s: fc.ProgramState, question_1: str, question_2: str) -> None:
    s += fc.system("You are a helpful assistant.")
    s += fc.user(question_1)
    s += fc.assistant(fc.gen("answer_1", max_tokens=24))
    s += fc.user(question_2)
    s += fc.assistant(fc.gen("answer_2", max_tokens=24))


@fc.function
def first_turn(s: fc.ProgramState, question: str) -> None:
    s += fc.system("You are a helpful assistant.")
    s += fc.user(question)
    s += fc.assistant(fc.gen("answer_1", max_tokens=24))
    s.save("chat")


@fc.function
def next_turn(s: fc.ProgramState, question: str) -> None:
    s += fc.user(question)
    s += fc.assistant(fc.gen("answer_2", max_tokens=24))


@pytest.fixture(autouse=True)
def default(smollm2: fc.Session) -> Iterator[None]:
    fc.set_default_backend(smollm2)
    yield
    fc.set_default_backend(None)


def test_chat_ui_shows_what_run_gives(smollm2: fc.Session) -> None:
    state = multi_turn.run(*QUESTIONS, temperature=0.0)
    assert "Paris" in state["answer_1"]

    async def chat_ui(question_1: str, question_2: str) -> dict[str | None, str]:
        shown: dict[str | None, str] = {}
        running = await multi_turn.astart(question_1, question_2, temperature=0.0)
        async for event in running.events():
            shown[event.var] = shown.get(event.var, "") + event.delta
        return shown

    shown = asyncio.run(chat_ui(*QUESTIONS))
    assert shown == {"answer_1": state["answer_1"], "answer_2": state["answer_2"]}


def test_a_saved_conversation_goes_on_as_if_it_had_never_stopped(smollm2: fc.Session) -> None:
    whole = multi_turn.run(*QUESTIONS, temperature=0.0, return_logprob=True)
    first_turn.run(QUESTIONS[0], temperature=0.0)
    continued = next_turn.open(session="chat").run(
        QUESTIONS[1], temperature=0.0, return_logprob=True
    )
    assert continued.messages() == whole.messages()
    assert continued.text() == whole.text()
    told, expected = (
        [token for _, token, _ in state.get_meta_info("answer_2")["output_token_logprobs"]]
        for state in (continued, whole)
    )
    assert told == expected


def test_a_pinned_system_prompt_is_not_computed_again(smollm2: fc.Session) -> None:
    with multi_turn.pin() as pinned:
        meta = multi_turn.run(*QUESTIONS, max_new_tokens=2).get_meta_info("answer_1")
    assert 0 < pinned.tokens <= meta["cached_tokens"]


def test_a_model_that_does_not_reason_says_so(smollm2: fc.Session) -> None:
    @fc.function
    def reasons(s: fc.ProgramState) -> None:
        s += fc.user(QUESTIONS[0])
        s += fc.assistant(fc.gen("answer", max_tokens=8, reasoning=True))

    with pytest.raises(fc.ProgramError, match="no markers of reasoning"):
        reasons.run()


def test_thinking_can_be_asked_of_any_model_with_markers_of_ones_own(smollm2: fc.Session) -> None:
    @fc.function
    def reasons(s: fc.ProgramState) -> None:
        s += fc.user(QUESTIONS[0] + " Think aloud first.")
        s += fc.assistant(
            "Thoughts: "
            + fc.gen("answer", 40, type=bool, reasoning=("Thoughts:", "Answer:"), max_thinking=16)
        )

    state = reasons.run(temperature=0.0)
    assert isinstance(state["answer"], bool)
    assert state["answer_reasoning_content"]
    assert "Answer:" in state.text()
