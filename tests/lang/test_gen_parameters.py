"""What the parameters of gen become, and what is wrong with them; that each has an effect at all is
in test_parameter_table."""

import enum
import json

import pytest

import furcate as fc
from furcate.protocol.graph import Gen, Select
from furcate.protocol.sampling import Sampling


@fc.function
def appends(s, expr):
    s += expr


def recorded(by_hand, expr, **run):
    """The nodes and the constraint table of a program that appends `expr`."""

    def react(channel, request):
        if hasattr(request, "nodes"):
            events = by_hand.values(request.program, request.nodes, '"x"')
            return [*events, by_hand.finished(request.program)] if request.done else events
        return []

    backend, channel = by_hand(react)
    appends.run(expr, backend=backend, **run)
    tables = [r.constraints for sent in channel.sent for r in sent if hasattr(r, "constraints")]
    return channel.nodes, [constraint for table in tables for constraint in table]


class Opaque:
    """Nothing that pydantic could describe."""


@pytest.mark.parametrize(
    ("keywords", "kind", "body"),
    [
        ({"regex": r"\p{L}+(?<n>x)"}, "regex", r"\p{L}+(?<n>x)"),
        ({"json_schema": '{"type": "string"}'}, "json_schema", '{"type":"string"}'),
        ({"json_schema": {"b": 1, "a": "é"}}, "json_schema", '{"b":1,"a":"é"}'),
        ({"json_schema": int}, "json_schema", '{"type":"integer"}'),
        ({"dtype": int}, "regex", r"[-+]?[0-9]+[ \n]*"),
        ({"dtype": "float"}, "regex", r"[-+]?[0-9]*\.?[0-9]+[ \n]*"),
        ({"dtype": bool}, "regex", "(True|False)"),
        ({"dtype": str}, "regex", r"\"[\w\d\s]*\""),
    ],
)
def test_a_shape_becomes_a_constraint(by_hand, keywords, kind, body):
    nodes, constraints = recorded(by_hand, fc.gen(**keywords))
    assert [(c.kind, c.body) for c in constraints] == [(kind, body)]
    assert [node.constraint for node in nodes if isinstance(node, Gen)] == [0]


def test_a_constraint_travels_once(by_hand):
    _, constraints = recorded(by_hand, fc.gen(regex="a") + fc.gen(regex="b") + fc.gen(regex="a"))
    assert [c.body for c in constraints] == ["a", "b"]


def test_gen_int_and_gen_string_are_gen_with_a_dtype(by_hand):
    assert fc.gen_int("x", stop="!") == fc.gen("x", dtype=int, stop="!")
    assert fc.gen_string("x", 5) == fc.gen("x", 5, dtype=str)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"max_tokens": -5}, "max_tokens .*-5"),
        ({"max_tokens": "7"}, "max_tokens .*'7'"),
        ({"max_tokens": True}, "max_tokens .*True"),
        ({"max_tokens": 3, "max_new_tokens": 3}, "max_tokens is given twice"),
        ({"max_tokens": 3, "min_tokens": 4}, "min_tokens .*4"),
        ({"n": 0}, "n must be .*0"),
        ({"n": 17}, "n must be .*17"),
        ({"temperature": -1}, "temperature .*-1"),
        ({"temperature": float("nan")}, "temperature .*nan"),
        ({"temperature": "hot"}, "temperature .*'hot'"),
        ({"top_p": 0}, "top_p .*0"),
        ({"top_k": 0}, "top_k .*0"),
        ({"min_p": 1.5}, "min_p .*1.5"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"presence_penalty": -3}, "presence_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {1: 1000}}, "logit_bias"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"stop": 3}, "stop"),
        ({"stop": ""}, "stop string"),
        ({"stop": ["a", None]}, "stop"),
        ({"stop_token_ids": "12"}, "stop_token_ids"),
        ({"stop_token_ids": [-1]}, "stop_token_ids"),
        ({"ignore_eos": 1}, "ignore_eos"),
        ({"seed": 2**64}, "seed"),
        ({"top_logprobs_num": 21, "return_logprob": True}, "top_logprobs_num must be from 0 to 20"),
        ({"regex": ""}, "regex '' allows no text"),
        ({"top_logprobs_num": 2, "return_logprob": False}, "top_logprobs_num has no effect"),
        ({"logprob_start_len": -2, "return_logprob": True}, "logprob_start_len"),
        ({"dtype": list}, "dtype .*list"),
        ({"dtype": int, "regex": "a"}, "dtype and regex"),
        ({"regex": "a", "type": int}, "regex and type"),
        ({"regex": "a("}, "regex 'a\\('"),
        ({"regex": 3}, "regex"),
        ({"json_schema": "{"}, "not JSON"),
        ({"json_schema": "[1]"}, "JSON object"),
        ({"json_schema": {"a": object()}}, "written as JSON"),
        ({"json_schema": {"a": float("nan")}}, "written as JSON"),
        ({"type": Opaque}, "type .*Opaque"),
        ({"name": ""}, "name"),
        ({"name": 3}, "name"),
        ({"choices": []}, "choices is empty"),
        ({"choices": ["a", "a"]}, "'a' occurs twice"),
        ({"choices": ["a", 1]}, "choice .*1"),
        ({"choices": "ab"}, "choices must be a list"),
        ({"choices": ["a"], "choices_method": "best"}, "choices_method .*'best'"),
        ({"choices": ["1", "b"], "type": int}, "the choice 'b' does not fit type=.*int"),
        ({"choices": ["a", ""]}, "choice .*''"),
        ({"dtype": float, "json_schema": "{}"}, "dtype and json_schema"),
        ({"dtype": str, "type": str}, "dtype and type"),
        ({"choices": ["a"], "dtype": int}, "dtype has no effect with choices"),
        ({"choices": ["a"], "json_schema": int}, "json_schema has no effect with choices"),
        ({"choices": ["a"], "stop": "x"}, "stop has no effect with choices"),
        ({"choices": ["a"], "stop_regex": "x"}, "stop_regex has no effect with choices"),
        ({"choices": ["a"], "n": 2}, "n has no effect with choices"),
        ({"choices": ["a"], "return_logprob": True}, "return_logprob has no effect with choices"),
        ({"choices": ["a"], "max_tokens": 3}, "max_tokens has no effect with choices"),
        ({"choices": ["a"], "regex": "a"}, "regex has no effect with choices"),
        ({"choices_method": fc.greedy_token_selection}, "without choices"),
    ],
)
def test_a_bad_value_raises_at_the_call_and_is_named(keywords, message):
    with pytest.raises(fc.UsageError, match=message):
        fc.gen(**keywords)


@pytest.mark.parametrize("make", [fc.gen, fc.gen_int, fc.gen_string, fc.select])
def test_an_unknown_keyword_is_a_type_error_that_names_it(make):
    with pytest.raises(TypeError, match="temperatur"):
        make("x", temperatur=0.5)


def test_an_invalid_dtype_is_the_error_that_other_frontends_raise_too():
    with pytest.raises(RuntimeError):
        fc.gen(dtype=dict)


def test_the_call_wins_over_the_run_and_the_run_over_the_default(by_hand):
    expr = fc.gen(temperature=0.5) + fc.gen()
    nodes, _ = recorded(by_hand, expr, temperature=0.25, max_new_tokens=9, stop="!")
    first, second = (node.sampling for node in nodes if isinstance(node, Gen))
    assert (first.temperature, second.temperature) == (0.5, 0.25)
    assert first.max_tokens == second.max_tokens == 9
    assert first.top_p == Sampling().top_p
    assert first.stop == ("!",)


def test_the_stop_of_the_run_is_kept_beside_that_of_a_dtype(by_hand):
    nodes, _ = recorded(by_hand, fc.gen(dtype=int), stop=["!", " "])
    assert [n.sampling.stop for n in nodes if isinstance(n, Gen)] == [("!", " ", "\n")]


def test_a_list_of_stops_is_never_changed():
    stops = ["!", "?"]
    expr = fc.gen(dtype=int, stop=stops)
    with fc.Mock("1") as backend:
        appends.run(expr + expr, backend=backend, stop=stops)
    assert stops == ["!", "?"]


@pytest.mark.parametrize(
    "keywords",
    [{"top_logprobs_num": 2}, {"logprob_start_len": 0}, {"return_text_in_logprobs": True}],
)
def test_details_of_logprobs_without_logprobs_are_an_error(keywords):
    with fc.Mock("1") as backend, pytest.raises(fc.UsageError, match="return_logprob=True"):
        appends.run(fc.gen(**keywords), backend=backend)


def test_logprobs_come_as_lists_in_the_meta_data():
    expr = "one two" + fc.gen(
        "x",
        return_logprob=True,
        top_logprobs_num=2,
        logprob_start_len=1,
        return_text_in_logprobs=True,
    )
    with fc.Mock(" three") as backend:
        info = appends.run(expr, backend=backend).get_meta_info("x")
    assert info["output_token_logprobs"] == [[-0.5, 5, " three"]]
    assert len(info["output_top_logprobs"][0]) == 2
    assert info["input_token_logprobs"] == [[-0.5, 4, " two"]]


def test_logprobs_leave_out_the_text_and_the_prompt_unless_asked():
    with fc.Mock("a b") as backend:
        info = appends.run("p" + fc.gen("x", return_logprob=True), backend=backend).get_meta_info(
            "x"
        )
    assert [entry[2] for entry in info["output_token_logprobs"]] == [None, None]
    assert info["input_token_logprobs"] == []


def test_zero_tokens_are_legal_and_report_the_prompt():
    expr = "one two" + fc.gen("x", max_tokens=0, return_logprob=True, logprob_start_len=0)
    with fc.Mock("never") as backend:
        state = appends.run(expr, backend=backend)
    assert state["x"] == ""
    info = state.get_meta_info("x")
    assert [entry[0] for entry in info["input_token_logprobs"]] == [None, -0.5]
    assert info["finish_reason"] == {"type": "length"}


def test_the_site_tells_calls_in_the_source_apart(by_hand):
    nodes, _ = recorded(by_hand, fc.gen("a") + fc.gen("b") + fc.select("c", ["x"]))
    sites = [node.site for node in nodes if isinstance(node, Gen | Select)]
    assert len(set(sites)) == 3


def test_a_schema_keeps_the_order_of_its_properties(by_hand):
    import pydantic

    class Colour(enum.Enum):
        red = "red"

    class Ticket(pydantic.BaseModel):
        zebra: int
        apple: Colour

    nodes, (constraint,) = recorded(by_hand, fc.gen(json_schema=Ticket))
    assert list(json.loads(constraint.body)["properties"]) == ["zebra", "apple"]
    assert nodes
