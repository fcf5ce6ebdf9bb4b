"""What a model thinks before it answers, apart from the answer."""

import pytest
from tests.fakes.in_process import context_session, model_session, scripted_session

import furcate as fc
from furcate.runtime.testing import ScriptedModel
from furcate.runtime.tokenize.byte_level import CHATML, ByteTokenizer

pytestmark = pytest.mark.timeout(20)

# The template mentions the marker, so the model has it; it does not open a section by itself.
REASONS = ByteTokenizer(chat_template=CHATML + "{# </think> #}")
OPENS = ByteTokenizer(
    chat_template=CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
)
TALK = "<think>\nLet me see.\n</think>\n\nIt is 42."


@fc.function
def asks(s, expr):
    s += fc.user("What is it?")
    s += fc.assistant(expr)


@pytest.fixture
def thinker():
    with scripted_session({"assistant\n": TALK, "again\n": "It is 42."}, REASONS) as session:
        yield session


@pytest.fixture
def plain():
    with scripted_session({"assistant\n": "It is 42."}, REASONS) as session:
        yield session


def test_what_the_model_thinks_by_itself_is_kept_apart(thinker):
    state = asks.run(fc.gen("answer", reasoning="auto"), backend=thinker)
    assert state["answer"] == "It is 42."
    assert state["answer_reasoning_content"] == "Let me see."
    assert state.text().endswith(f"assistant\n{TALK}<|im_end|>\n")
    assert state.messages()[-1] == {"role": "assistant", "content": "It is 42."}


def test_meta_data_count_both_and_tell_them_apart(thinker):
    state = asks.run(fc.gen("answer", reasoning="auto"), backend=thinker)
    meta = state.get_meta_info("answer")
    thought = len("\nLet me see.\n")
    assert meta["reasoning_tokens"] == thought
    assert meta["completion_tokens"] == thought + len("It is 42.")
    assert meta["finish_reason"]["type"] == "eos"
    assert state.get_meta_info("answer_reasoning_content")["completion_tokens"] == thought
    assert state.usage.completion >= meta["completion_tokens"]


@pytest.mark.parametrize("reasoning", ["auto", ("<think>", "</think>")])
def test_a_model_that_answers_at_once_has_thought_nothing(plain, reasoning):
    state = asks.run(fc.gen("answer", reasoning=reasoning), backend=plain)
    assert (state["answer"], state["answer_reasoning_content"]) == ("It is 42.", "")
    assert state.get_meta_info("answer")["reasoning_tokens"] == 0


def test_where_nothing_is_thought_the_output_is_that_of_a_plain_gen():
    markers = ("<think>", "</think>")
    with context_session() as backend:
        for seed in range(5):
            with_it, without = (
                asks.run(
                    fc.gen("a", max_tokens=10, reasoning=reasoning) + " and " + fc.gen("b", 5),
                    backend=backend,
                    seed=seed,
                )
                for reasoning in (markers, None)
            )
            assert with_it.text() == without.text()


def test_auto_has_no_effect_on_a_model_without_markers():
    with scripted_session({"assistant\n": TALK}) as backend:
        state = asks.run(fc.gen("answer", reasoning="auto"), backend=backend)
        assert state["answer"] == TALK
        assert state["answer_reasoning_content"] == ""


def test_asking_a_model_without_markers_to_reason_is_an_error_by_name():
    with scripted_session({"assistant\n": TALK}) as backend:
        with pytest.raises(fc.ProgramError, match="test has no markers of reasoning") as caught:
            asks.run(fc.gen("answer", reasoning=True), backend=backend)
        assert isinstance(caught.value.cause, fc.UsageError)


def test_a_section_is_opened_where_the_model_would_not():
    script = {"assistant\n": "It is 42.", "<think>\n": "Well.\n</think>\n\nIt is 43."}
    with scripted_session(script, REASONS) as backend:
        state = asks.run(fc.gen("answer", reasoning=True), backend=backend)
        text = state.text()
    assert (state["answer"], state["answer_reasoning_content"]) == ("It is 43.", "Well.")
    assert "assistant\n<think>\nWell.\n</think>\n\nIt is 43." in text


@pytest.mark.parametrize("reasoning", ["auto", True])
def test_a_section_that_the_template_has_opened_is_one(reasoning):
    with scripted_session({"<think>\n": "Hm.\n</think>\n\nYes."}, OPENS) as backend:
        state = asks.run(fc.gen("answer", reasoning=reasoning), backend=backend)
        assert state.text().count("<think>") == 1
    assert (state["answer"], state["answer_reasoning_content"]) == ("Yes.", "Hm.")


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        ({"regex": r"It is \d+\."}, "It is 42."),
        ({"regex": r"Or \d\."}, "Or 4."),
        ({"type": bool}, True),
        ({"stop": " "}, "It"),
        ({"stop": "see"}, "It is 42."),
        ({"stop_regex": r"\d"}, "It is "),
        ({"check": lambda text: "42" in text}, "It is 42."),
    ],
)
def test_what_shapes_and_ends_the_output_is_about_the_answer(shape, value):
    script = {
        "assistant\n": TALK,
        "</think>\n\n": "It is 42.",
        "Or ": "4.",
        "tr": "ue",
        "\n\nt": "rue",
    }
    with scripted_session(script, REASONS) as backend:
        state = asks.run(fc.gen("answer", reasoning="auto", **shape), backend=backend)
    assert state["answer_reasoning_content"] == "Let me see."
    assert isinstance(value, bool) or state["answer"] == value


def test_thinking_has_a_budget_after_which_the_answer_begins():
    script = {"assistant\n": TALK, "Let m\n</think>\n\n": "Short."}
    with scripted_session(script, REASONS) as backend:
        state = asks.run(fc.gen("answer", reasoning="auto", max_thinking=6), backend=backend)
    assert (state["answer"], state["answer_reasoning_content"]) == ("Short.", "Let m")
    assert state.get_meta_info("answer_reasoning_content")["finish_reason"] == {"type": "length"}


def test_thinking_may_be_skipped():
    script = {"assistant\n": TALK, "<think>\n\n</think>\n\n": "At once."}
    with scripted_session(script, REASONS) as backend:
        state = asks.run(fc.gen("answer", reasoning=True, max_thinking=0), backend=backend)
    assert (state["answer"], state["answer_reasoning_content"]) == ("At once.", "")


def test_both_share_one_limit(thinker):
    long = asks.run(fc.gen("answer", 21, reasoning="auto"), backend=thinker)
    assert (long["answer_reasoning_content"], long["answer"]) == ("Let me see.", "It is 42")
    short = asks.run(fc.gen("answer", 5, reasoning="auto"), backend=thinker)
    assert (short["answer_reasoning_content"], short["answer"]) == ("Let", "")
    assert short.get_meta_info("answer")["finish_reason"] == {"type": "length"}
    with pytest.raises(fc.ProgramError, match="cut at its token limit"):
        asks.run(fc.gen("answer", 5, reasoning="auto", type=int), backend=thinker)["answer"]


def test_a_model_that_ends_its_turn_while_it_thinks_is_asked_for_the_answer():
    script = {"assistant\n": "<think>\nLet me", "me\n</think>\n\n": "Fine."}
    with scripted_session(script, REASONS) as backend:
        state = asks.run(fc.gen("answer", reasoning="auto"), backend=backend)
    assert (state["answer"], state["answer_reasoning_content"]) == ("Fine.", "Let me")


def test_markers_that_are_control_tokens_are_found_as_such():
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "[THINK]", "[/THINK]")
    codec = ByteTokenizer(names)
    ids = codec.control_names
    prompt = [ids["<|im_start|>"], *codec.encode("assistant\n")]
    talk = [ids["[THINK]"], *codec.encode("Hm."), ids["[/THINK]"], *codec.encode("Yes.")]

    def follow(tokens):
        at = max(i for i in range(len(tokens)) if tokens[i : i + len(prompt)] == prompt)
        said = tokens[at + len(prompt) :]
        return talk[len(said)] if len(said) < len(talk) else ids["<|im_end|>"]

    with model_session(ScriptedModel(follow, len(codec.table)), codec) as backend:
        state = asks.run(fc.gen("answer", reasoning="auto"), backend=backend)
        assert (state["answer"], state["answer_reasoning_content"]) == ("Yes.", "Hm.")
        assert "[THINK]Hm.[/THINK]Yes.<|im_end|>" in state.text()


def test_streams_tell_the_two_apart(thinker):
    state = asks.run(fc.gen("answer", reasoning="auto"), stream=True, backend=thinker)
    told = {}
    for event in state.events():
        told.setdefault(event.var, []).append(event.delta)
    assert "".join(told["answer_reasoning_content"]) == "Let me see."
    assert "".join(told["answer"]) == "It is 42."
    assert list(told) == ["answer_reasoning_content", "answer"]
    assert len(told["answer_reasoning_content"]) > 3
    again = asks.run(fc.gen("answer", reasoning="auto"), stream=True, backend=thinker)
    assert "".join(again.text_iter("answer_reasoning_content")) == "Let me see."
    assert "".join(again.text_iter()) == "What is it?It is 42."


def test_the_branch_goes_on_behind_the_answer(thinker):
    @fc.function
    def body(s):
        s += fc.user("What is it?")
        s += fc.assistant(fc.gen("a", reasoning="auto") + " Or again\n" + fc.gen("b"))
        left, right = s.fork(2)
        left += "left"
        right += "right"
        return left.text(), s.ref("a").upper()

    left, upper = body.run(backend=thinker).ret_value
    assert f"{TALK} Or again\nIt is 42.<|im_end|>" in left
    assert upper == "IT IS 42."


def test_separate_reasoning_reaches_every_gen_in_an_expression(thinker):
    expr = fc.separate_reasoning("So: " + fc.gen("a", 30) + fc.gen("b", reasoning=False))
    state = asks.run(expr, backend=thinker)
    assert "a_reasoning_content" in state

    @fc.function
    def whole(s):
        s += fc.user("What is it?")
        s += fc.separate_reasoning(fc.assistant(fc.gen("answer")), "deepseek-r1")

    assert whole.run(backend=thinker)["answer_reasoning_content"] == "Let me see."


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fc.gen("x", reasoning="maybe"), "got 'maybe'"),
        (lambda: fc.gen("x", reasoning=("<think>",)), "the two markers"),
        (lambda: fc.gen("x", reasoning=("", "b")), "the two markers"),
        (lambda: fc.gen("x", max_thinking=3), "max_thinking=3 has no effect without reasoning"),
        (lambda: fc.gen("x", reasoning=True, max_thinking=-1), "max_thinking .* got -1"),
        (lambda: fc.gen("x", choices=["a"], reasoning=True), "reasoning has no effect"),
        (lambda: fc.separate_reasoning(fc.gen("x"), "gpt-99"), "'deepseek-r1'.* got 'gpt-99'"),
    ],
)
def test_what_means_nothing_raises_at_the_call(make, message):
    with pytest.raises(fc.UsageError, match=message):
        make()


def test_several_outputs_of_one_reasoning_are_refused_by_name(thinker):
    with pytest.raises(fc.UsageError, match="reasoning takes one output, not n=2"):
        asks.run(fc.gen("x", n=2, reasoning="auto"), backend=thinker)


def test_a_failure_while_it_thinks_is_the_failure_of_the_gen():
    codec = REASONS
    model = ScriptedModel(lambda ids: ord("a"), len(codec.table), max_context=64)
    with model_session(model, codec, num_pages=4) as backend:
        with pytest.raises(fc.ProgramError, match=r"gen .answer. at .* failed: ") as caught:
            asks.run(
                "b" * 10 + fc.gen("answer", reasoning=True, max_tokens=100) + "c" * 30,
                backend=backend,
            )
        assert isinstance(caught.value.cause, fc.CapacityError)


def test_a_cancelled_program_stops_thinking(thinker):
    state = asks.run(fc.gen("answer", reasoning="auto"), stream=True, backend=thinker)
    state.cancel()
    with pytest.raises(fc.ProgramError):
        state["answer"]
    assert fc.get_server_info(thinker)["programs"] == 0


def test_reasoning_works_on_a_mock():
    def reply(call):
        if call.text.endswith("<think>"):
            return "Hm. Well.</think> and more"
        return "Yes." if "</think>" in call.text else "<think>"

    with fc.Mock(reply) as backend:
        state = asks.run(fc.gen("answer", reasoning=("<think>", "</think>")), backend=backend)
        assert (state["answer"], state["answer_reasoning_content"]) == ("Yes.", "Hm. Well.")


def test_reasoning_works_in_loops_and_in_branches_that_are_joined(thinker):
    @fc.function
    def loops(s):
        def turn(s):
            s += fc.user("What is it?") + fc.assistant(fc.gen("a", reasoning="auto"))

        s.loop(turn, max_iters=2)
        return s.ref("a"), s.ref("a_reasoning_content")

    state = loops.run(backend=thinker)
    assert state.ret_value == ("It is 42.", "Let me see.")
    assert state.text().count(TALK) == 2

    @fc.function
    def joins(s):
        group = s.fork(2)
        for child in group:
            child += fc.user("?") + fc.assistant(fc.gen("a", reasoning="auto"))
        group.join("append")
        s += " again\n" + fc.gen("b")

    assert joins.run(backend=thinker)["b"] == "It is 42."


def test_what_was_thought_is_saved_with_the_rest(thinker):
    @fc.function
    def saves(s):
        s += fc.user("?") + fc.assistant(fc.gen("a", reasoning="auto"))
        s.save("thought")

    @fc.function
    def reads(s):
        return s["a"], s["a_reasoning_content"]

    text = saves.run(backend=thinker).text()
    opened = reads.open(session="thought").run(backend=thinker)
    assert opened.ret_value == ("It is 42.", "Let me see.")
    assert opened.text() == text
