"""`type=`: the value is of that type, or the node has failed."""

import dataclasses
import enum
from typing import Annotated, Literal

import pydantic
import pytest
from typing_extensions import TypedDict

import furcate as fc


class Colour(enum.Enum):
    red = "red"
    blue = "dark blue (2)"


class Level(enum.IntEnum):
    low = 1


class Ticket(pydantic.BaseModel):
    customer: str
    colour: Colour
    refund: float | None = None


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Pair(TypedDict):
    left: str
    right: list[int]


@fc.function
def typed(s, as_type, **keywords):
    s += fc.gen("x", type=as_type, **keywords)


TYPES = [
    (str, "any text", "any text"),
    (int, "42", 42),
    (float, "1.5", 1.5),
    (bool, "true", True),
    (None | int, "null", None),
    (list[int], "[1, 2]", [1, 2]),
    (dict[str, int], '{"a": 1}', {"a": 1}),
    (tuple[int, str], '[1, "a"]', (1, "a")),
    (Literal["yes", "no"], "no", "no"),
    (Literal[1, 2], "2", 2),
    (Literal["a", 1], '"a"', "a"),
    (Colour, "dark blue (2)", Colour.blue),
    (Level, "1", Level.low),
    (Ticket, '{"customer": "Ada", "colour": "red"}', Ticket(customer="Ada", colour=Colour.red)),
    (Point, '{"x": 3}', Point(3)),
    (Pair, '{"left": "l", "right": [1]}', {"left": "l", "right": [1]}),
    (int | str, '"a"', "a"),
    (Annotated[int, pydantic.Field(ge=3)], "3", 3),
    (list[Ticket], "[]", []),
]


@pytest.mark.parametrize(("as_type", "text", "value"), TYPES, ids=lambda item: str(item)[:30])
def test_the_variable_is_a_value_of_the_type(as_type, text, value):
    with fc.Mock(text) as backend:
        state = typed.run(as_type, backend=backend)
    assert state["x"] == value
    assert type(state["x"]) is type(value)
    assert state["x"] is state["x"]
    assert state.text() == text if not backend._closed else True


@pytest.mark.parametrize(
    ("as_type", "kind", "body"),
    [
        (str, None, None),
        (Colour, "regex", r"(red|dark blue \(2\))"),
        (Literal["a.b", "c"], "regex", r"(a\.b|c)"),
        (Literal[1], "json_schema", '{"const":1,"type":"integer"}'),
        (int, "json_schema", '{"type":"integer"}'),
    ],
)
def test_strings_are_generated_bare_and_everything_else_as_json(as_type, kind, body):
    seen = []

    def reply(call):
        seen.append(call.constraint)
        return {"regex": "c", None: "c"}.get(kind, "1")

    with fc.Mock(reply) as backend:
        typed.run_batch([(as_type,)], backend=backend, on_error="return")
    (constraint,) = seen
    assert (constraint and (constraint.kind, constraint.body)) == (kind and (kind, body))


def test_a_cut_output_is_truncated_and_never_half_a_value():
    with fc.Mock('{"customer": "Ada", "colour": "red"}') as backend:
        with pytest.raises(fc.ProgramError) as raised:
            typed.run(Ticket, max_tokens=2, backend=backend)
    assert isinstance(raised.value.cause, fc.Truncated)
    assert "max_tokens" in str(raised.value)
    assert raised.value.node == "gen 'x'"
    assert raised.value.location.startswith(__file__)


def test_an_output_that_does_not_fit_is_validation_failed_with_the_text():
    with fc.Mock('{"customer": 1}') as backend, pytest.raises(fc.ProgramError) as raised:
        typed.run(Ticket, backend=backend)
    assert isinstance(raised.value.cause, fc.ValidationFailed)
    assert raised.value.cause.value == '{"customer": 1}'
    assert "customer: Input should be a valid string" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("as_type", [range, 3, list["Nobody"]])  # noqa: F821
def test_a_type_without_a_schema_is_told_in_one_line(as_type):
    with pytest.raises(fc.ConstraintError, match="has no JSON schema: ") as raised:
        fc.gen("x", type=as_type)
    assert repr(as_type) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_reading_a_value_that_does_not_fit_raises_into_the_body():
    @fc.function
    def recovers(s):
        s += fc.gen("x", type=int)
        try:
            return s["x"]
        except fc.ProgramError as error:
            return type(error.cause)

    with fc.Mock("seven") as backend:
        assert recovers.run(backend=backend).ret_value is fc.ValidationFailed


def test_free_text_that_was_cut_is_a_value():
    with fc.Mock("one two three") as backend:
        assert typed.run(str, max_tokens=2, backend=backend)["x"] == "one two"


def test_n_samples_of_a_type_are_a_list_of_values():
    with fc.Mock(lambda call: str(call.sample)) as backend:
        assert typed.run(int, n=3, backend=backend)["x"] == [0, 1, 2]


def test_choices_with_a_type_give_a_value():
    @fc.function
    def rates(s):
        s += fc.gen("score", type=int, choices=["1", "2", "3"])
        return s["score"]

    with fc.Mock(lambda call: 2) as backend:
        state = rates.run(backend=backend)
    assert state.ret_value == 3
    assert type(state["score"]) is int


def test_a_type_is_described_once_for_a_whole_batch():
    calls = []

    class Counted(pydantic.BaseModel):
        a: int

        @classmethod
        def __get_pydantic_json_schema__(cls, core_schema, handler):
            calls.append(1)
            return handler(core_schema)

    with fc.Mock('{"a": 1}') as backend:
        states = typed.run_batch([(Counted,)] * 20, backend=backend)
    assert all(state["x"].a == 1 for state in states)
    assert len(calls) == 1
