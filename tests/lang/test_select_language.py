import pytest

import furcate as fc
from furcate.protocol.graph import Select

METHODS = [
    fc.token_length_normalized,
    fc.greedy_token_selection,
    fc.unconditional_likelihood_normalized,
]


@fc.function
def chooses(s, expr):
    s += "Q: " + expr


def test_the_variable_is_the_chosen_string_and_the_text_goes_on_with_it():
    with fc.Mock(lambda call: "no") as backend:
        state = chooses.run(fc.select("x", ["yes", "no"]) + "!", backend=backend)
        assert state["x"] == "no"
        assert state.text() == "Q: no!"


@pytest.mark.parametrize("method", METHODS)
def test_every_parameter_reaches_the_node(by_hand, method):
    def react(channel, request):
        if hasattr(request, "nodes"):
            events = by_hand.values(request.program, request.nodes)
            return [*events, by_hand.finished(request.program)]
        return []

    backend, channel = by_hand(react)
    expr = fc.select("x", ("a", "b"), temperature=0.5, choices_method=method, scores=True)
    chooses.run(expr, backend=backend, temperature=0.9)
    (node,) = [node for node in channel.nodes if isinstance(node, Select)]
    assert (node.choices, node.temperature, node.method, node.scores) == (
        ("a", "b"), 0.5, method, True
    )  # fmt: skip


def test_gen_with_choices_is_a_select_at_temperature_zero():
    assert fc.gen("x", choices=["a", "b"]) == fc.select("x", ["a", "b"])


def test_scores_are_probabilities_by_choice():
    with fc.Mock() as backend:
        state = chooses.run(fc.select("x", ["a", "b"], scores=True), backend=backend)
    scores = state.scores("x")
    assert scores["a"] > scores["b"]
    assert sum(scores.probabilities.values()) == pytest.approx(1)
    assert 0 <= scores.label_mass <= 1
    info = state.get_meta_info("x")
    assert len(info["normalized_prompt_logprobs"]) == len(info["input_token_logprobs"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"choices": []}, "empty"),
        ({"choices": None}, "list of strings"),
        ({"choices": ["a", ""]}, "non-empty"),
        ({"choices": ["a", "b", "a"]}, "'a' occurs twice"),
        ({"choices": ["a"], "temperature": -1}, "temperature"),
        ({"choices": ["a"], "scores": "yes"}, "scores"),
        ({"choices": ["a"], "name": ""}, "name"),
    ],
)
def test_bad_arguments_raise_at_the_call(arguments, message):
    with pytest.raises(fc.UsageError, match=message):
        fc.select(**arguments)


def test_scores_of_something_else_say_what_to_do():
    with fc.Mock("a") as backend:
        state = chooses.run(fc.gen("x"), backend=backend)
    with pytest.raises(fc.UsageError, match="scores=True"):
        state.scores("x")


def test_an_index_that_is_none_fails_the_node_and_not_the_client(by_hand):
    from furcate.protocol.message import Value

    def react(channel, request):
        if hasattr(request, "nodes"):
            return [Value(request.program, 0, 7), by_hand.finished(request.program)]
        return []

    backend, _ = by_hand(react)
    with pytest.raises(fc.ProgramError, match="choice 7 of 2") as raised:
        chooses.run(fc.select("x", ["a", "b"]), backend=backend)
    assert isinstance(raised.value.cause, fc.WireError)
