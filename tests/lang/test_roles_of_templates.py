"""Roles on models whose chat templates do more than put control tokens around a turn."""

import pytest
from tests.fakes.in_process import scripted_session

import furcate as fc
from furcate.errors import TemplateError
from furcate.runtime.tokenize.byte_level import CHATML, ByteTokenizer

pytestmark = pytest.mark.timeout(20)

THINKS_IN_PROMPT = CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
TRIMS = CHATML.replace("message['content']", "message['content'] | trim")


@fc.function
def two_questions(s):
    for number in range(2):
        s += fc.user(f"question {number}")
        s += fc.assistant(fc.gen(f"answer_{number}"))


def test_a_template_that_drops_what_it_prompts_with_is_refused_with_both_texts():
    codec = ByteTokenizer(chat_template=THINKS_IN_PROMPT)
    with (
        scripted_session({"<think>\n": "hm"}, codec) as session,
        pytest.raises(fc.ProgramError, match=r'rewrites earlier turns.*template="append"') as told,
    ):
        two_questions.run(backend=session)
    assert isinstance(told.value.cause, TemplateError)
    assert told.value.location.startswith(__file__.rpartition("/")[2]) or __file__ in str(
        told.value.location
    )


def test_append_keeps_what_was_written():
    codec = ByteTokenizer(chat_template=THINKS_IN_PROMPT)
    with scripted_session({"<think>\n": "hm"}, codec) as session:
        state = two_questions.run(backend=session, template="append")
        assert (state["answer_0"], state["answer_1"]) == ("hm", "hm")
        assert state.text().count("<|im_start|>assistant\n<think>\nhm<|im_end|>\n") == 2


def test_text_and_messages_agree_where_a_template_trims():
    @fc.function
    def indented(s):
        s += fc.user("  indented\n")
        s += fc.assistant(" given ")
        s += fc.user(" more ") + fc.assistant(fc.gen("answer"))

    codec = ByteTokenizer(chat_template=TRIMS)
    with scripted_session({"assistant\n": " hm "}, codec) as session:
        state = indented.run(backend=session)
        assert state["answer"] == " hm "
        assert state.text() == (
            "<|im_start|>user\nindented<|im_end|>\n<|im_start|>assistant\ngiven<|im_end|>\n"
            "<|im_start|>user\nmore<|im_end|>\n<|im_start|>assistant\n hm <|im_end|>\n"
        )
        contents = [message["content"].strip() for message in state.messages()]
        assert contents == ["indented", "given", "more", "hm"]
