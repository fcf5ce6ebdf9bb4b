"""`type=`: the value is of that type, or the node has failed."""

import dataclasses
import datetime
import decimal
import enum
import ipaddress
import pathlib
import uuid
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar

import pydantic
import pytest
from tests.fakes.in_process import model_session, scripted_session
from tests.fakes.typed_values import Cat, Dog, Tree
from typing_extensions import TypedDict

import furcate as fc
from furcate.runtime.testing import ContextModel


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


# Types through the real constraint engines -------------------------------------------------------


class Tone(enum.StrEnum):
    warm = "warm"
    very_cold = "very cold"


class Mixed(enum.Enum):
    word = "word"
    number = 1


class Partly(TypedDict, total=False):
    left: int


class Named(NamedTuple):
    number: int
    text: str = "x"


T = TypeVar("T")


class Box(pydantic.BaseModel, Generic[T]):
    content: T


class Aliased(pydantic.BaseModel):
    number: int = pydantic.Field(alias="the number")


ENFORCED = {
    "int": int,
    "float": float,
    "bool": bool,
    "None": type(None),
    "optional": int | None,
    "list": list[int],
    "set": set[int],
    "frozenset": frozenset[str],
    "set of at least two": Annotated[set[int], pydantic.Field(min_length=2)],
    "dict": dict[str, int],
    "dict of integers": dict[int, str],
    "dict of literals": dict[Literal["a", "b"], int],
    "tuple": tuple[int, str],
    "tuple of any length": tuple[int, ...],
    "literal integers": Literal[1, 2],
    "literal strings": Literal["yes", "no"],
    "literal of both and None": Literal["a", 1, None],
    "enum of strings": Colour,
    "str enum": Tone,
    "int enum": Level,
    "enum of both": Mixed,
    "model": Ticket,
    "list of models": list[Ticket],
    "dict of dataclasses": dict[str, Point],
    "dataclass": Point,
    "typed dict": Pair,
    "partial typed dict": Partly,
    "named tuple": Named,
    "union": int | str,
    "union of models": Cat | Dog,
    "discriminated union": Annotated[Cat | Dog, pydantic.Field(discriminator="kind")],
    "recursive model": Tree,
    "generic model": Box[list[int]],
    "aliased field": Aliased,
    "new type": NewType("UserId", int),
    "date": datetime.date,
    "datetime": datetime.datetime,
    "time": datetime.time,
    "timedelta": datetime.timedelta,
    "aware datetime": pydantic.AwareDatetime,
    "uuid": uuid.UUID,
    "decimal": decimal.Decimal,
    "decimal of two places": Annotated[
        decimal.Decimal, pydantic.Field(max_digits=5, decimal_places=2)
    ],
    "integer in a range": Annotated[int, pydantic.Field(ge=3, le=12)],
    "positive integer": pydantic.PositiveInt,
    "strict integer": pydantic.StrictInt,
    "number above": Annotated[float, pydantic.Field(gt=0)],
    "multiple": Annotated[int, pydantic.Field(multiple_of=5, ge=0, le=1000)],
    "string of a length": Annotated[str, pydantic.Field(min_length=2, max_length=5)],
    "string of a pattern": Annotated[str, pydantic.Field(pattern="^[a-z]{2,4}$")],
    "list of a length": Annotated[list[bool], pydantic.Field(min_length=2, max_length=3)],
    "bytes": bytes,
    "path": pathlib.Path,
    "address": ipaddress.IPv4Address,
    "url": pydantic.HttpUrl,
    "secret": pydantic.SecretStr,
    "complex": complex,
    "any": Any,
    "any object": dict,
    "any json": pydantic.JsonValue,
}


@fc.function
def prompted(s, as_type, max_tokens=60):
    s += "x " + fc.gen("x", type=as_type, max_tokens=max_tokens)


@pytest.fixture(scope="module")
def terse():
    """Soon ends whatever it has begun; says something else for each seed."""
    model = ContextModel(likely=tuple(b'"}]ab1'))
    with model_session(model, checks=False) as backend:
        yield backend


@pytest.mark.parametrize("as_type", ENFORCED.values(), ids=ENFORCED)
def test_the_constraint_engines_hold_the_type(terse, as_type):
    states = prompted.run_batch(
        [{"as_type": as_type, "max_tokens": 500}] * 2, backend=terse, seed=1, on_error="return"
    )
    adapter = pydantic.TypeAdapter(as_type)
    for state in states:
        value = state["x"]  # raises for a value that there is not
        adapter.validate_python(value)


def test_a_type_that_no_engine_can_hold_is_told_with_keyword_pointer_and_line(terse):
    class Odd(pydantic.BaseModel):
        tags: Annotated[list[int], pydantic.Field(json_schema_extra={"uniqueItems": True})]

    with pytest.raises(fc.ProgramError, match="uniqueItems") as raised:
        prompted.run(Odd, backend=terse)
    assert isinstance(raised.value.cause, fc.ConstraintError)
    assert raised.value.cause.pointer == "/properties/tags/uniqueItems"
    assert raised.value.location.startswith(__file__)


@pytest.mark.parametrize(
    ("as_type", "text"),
    [
        (set[int], "[1, 1, 2]"),
        (Annotated[decimal.Decimal, pydantic.Field(max_digits=4, decimal_places=2)], '"12.50"'),
        (Annotated[decimal.Decimal, pydantic.Field(max_digits=4, ge=0)], '"1200"'),
        (dict[int, bool], '{"-3": true}'),
    ],
)
def test_what_is_generated_for_a_type_is_a_value_of_it(as_type, text):
    with scripted_session({"x ": text}) as backend:
        state = prompted.run(as_type, backend=backend)
    assert state["x"] == pydantic.TypeAdapter(as_type).validate_json(text)


def test_truncated_and_validation_failed_carry_what_was_generated(terse):
    with pytest.raises(fc.ProgramError) as raised:
        prompted.run(Ticket, max_tokens=2, backend=terse)
    assert isinstance(raised.value.cause, fc.Truncated)
    assert raised.value.cause.value.startswith("{")
    assert raised.value.cause.attempts == 1

    class Never(pydantic.BaseModel):
        number: int

        @pydantic.field_validator("number")
        @classmethod
        def refuse(cls, number: int) -> int:
            raise ValueError("no number will do")

    with pytest.raises(fc.ProgramError, match="no number will do") as raised:
        prompted.run(Never, max_tokens=300, backend=terse)
    failure = raised.value.cause
    assert isinstance(failure, fc.ValidationFailed)
    assert isinstance(failure.error, pydantic.ValidationError)
    assert failure.attempts == 1
