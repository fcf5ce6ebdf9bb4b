"""`state.partial`: a typed value while it is still being generated."""

import dataclasses
import datetime
import enum
import threading
from typing import Annotated, Any, Literal, NamedTuple

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.in_process import scripted_session
from tests.fakes.typed_values import Cat, Dog, Tree
from typing_extensions import TypedDict

import furcate as fc
from furcate.lang._output import output_of

WAIT_S = 5.0


class Tone(enum.StrEnum):
    warm = "warm"
    cold = "cold"


class Item(pydantic.BaseModel):
    name: str
    count: int = 1


class Order(pydantic.BaseModel):
    customer: str
    tone: Tone
    items: list[Item] = []
    placed: datetime.date | None = None
    number: int = pydantic.Field(default=7, alias="order number")


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: int
    label: str = "none"


class Pair(TypedDict):
    left: str
    right: list[int]


class Named(NamedTuple):
    number: int
    text: str


class Names(pydantic.RootModel[list[str]]):
    pass


def partial(as_type: object, text: str) -> Any:
    so_far = output_of(as_type=as_type).so_far
    assert so_far is not None
    return so_far(text)


def test_a_model_has_the_fields_that_are_there_and_none_for_the_others():
    seen = partial(Order, '{"customer": "Ad')
    assert type(seen) is Order
    assert (seen.customer, seen.tone, seen.items, seen.placed, seen.number) == (
        "Ad",
        None,
        None,
        None,
        None,
    )
    assert seen.model_fields_set == {"customer"}


def test_parts_have_the_form_of_their_types():
    text = '{"customer": "Ada", "tone": "warm", "order number": 3, "items": [{"name": "mu'
    seen = partial(Order, text)
    assert seen.tone is Tone.warm
    assert seen.number == 3
    (item,) = seen.items
    assert type(item) is Item
    assert (item.name, item.count) == ("mu", None)
    seen = partial(Order, text + 'gs"}, {"name": "plates", "count": 1')
    assert [(item.name, item.count) for item in seen.items] == [("mugs", 1), ("plates", 1)]


@pytest.mark.parametrize(
    ("as_type", "text", "expected"),
    [
        (int, "", None),
        (int, "-", None),
        (int, "12", 12),
        (float, "1.", None),
        (float, "1.5", 1.5),
        (bool, "tr", None),
        (list[int], "[1, 2, ", [1, 2]),
        (list[int], "[", []),
        (list[str], '["a", "b', ["a", "b"]),
        (list[Tone], '["warm", "co', [Tone.warm]),
        (dict[str, int], '{"a": 1, "b', {"a": 1}),
        (dict[int, list[int]], '{"1": [2', {1: [2]}),
        (set[int], "[1, 1", {1}),
        (frozenset[int], "[1", frozenset({1})),
        (tuple[int, str], "[1", (1,)),
        (tuple[int, ...], "[1, 2", (1, 2)),
        (Named, "[1", Named(1, None)),
        (Pair, '{"left": "l", "right": [1', {"left": "l", "right": [1]}),
        (Tone, "wa", None),
        (Tone, "warm", Tone.warm),
        (Literal["a", "ab"], "a", "a"),
        (Literal[1, 22], "2", None),
        (datetime.date, '"2024-0', None),
        (datetime.date, '"2024-01-02"', datetime.date(2024, 1, 2)),
        (int | str, '"a', "a"),
        (list[int] | None, "nul", None),
        (list[int] | None, "[1", [1]),
        (Any, '{"a": [1', {"a": [1]}),
        (dict, '{"a": [1', {"a": [1]}),
        (pydantic.JsonValue, '[{"a": 1', [{"a": 1}]),
        (Annotated[list[int], pydantic.Field(min_length=3)], "[1", [1]),
        (Annotated[str, pydantic.Field(min_length=5)], '"ab', "ab"),
    ],
)
def test_a_beginning_in_the_form_of_the_type(as_type, text, expected):
    seen = partial(as_type, text)
    assert seen == expected
    assert expected is None or type(seen) is type(expected) or isinstance(seen, (int, float))


def test_dataclasses_of_any_kind_have_what_is_there():
    assert partial(Point, '{"x": 3').x == 3
    assert partial(Point, '{"x": 3').label is None
    assert partial(Point, "{").x is None


def test_of_several_types_it_is_the_one_that_it_may_become():
    either = Cat | Dog
    assert type(partial(either, '{"kind": "do')) is Dog
    assert partial(either, '{"kind": "dog", "name": "Re').name == "Re"
    tagged = Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]
    assert type(partial(list[tagged], '[{"kind": "dog"')[0]) is Dog


def test_recursive_and_root_models():
    seen = partial(Tree, '{"value": 1, "children": [{"value": 2, "children": [{"val')
    assert seen.children[0].value == 2
    assert type(seen.children[0].children[0]) is Tree
    assert partial(Names, '["a", "b').root == ["a", "b"]


@given(st.text(max_size=12), st.integers(0, 80))
def test_no_beginning_of_anything_raises(noise, length):
    text = '{"customer": "Ada \\u00e9", "tone": "warm", "items": [{"name": "x"}], "placed": null}'
    partial(Order, text[:length])
    partial(Order, text[:length] + noise)
    partial(dict[int, Cat | list[Dog]], text[:length] + noise)


def test_the_whole_text_is_the_value_with_its_defaults():
    text = '{"customer": "Ada", "tone": "cold"}'
    assert partial(Order, text) == Order(customer="Ada", tone=Tone.cold)


# While a program runs ----------------------------------------------------------------------------


REPLY = '{"customer": "Ada", "tone": "warm", "items": [{"name": "mugs"}]}'


@fc.function
def orders(s, as_type, **keywords):
    s += "order? " + fc.gen("order", type=as_type, max_tokens=100, **keywords)


@pytest.fixture(scope="module")
def engine():
    with scripted_session({"order? ": REPLY}) as backend:
        yield backend


def test_a_streaming_program_shows_its_value_grow(engine):
    state = orders.run(Order, backend=engine, stream=True)
    seen = [state.partial("order") for _ in state.events()]
    assert all(type(each) is Order for each in seen if each is not None)
    state.sync()
    assert state.partial("order") is state["order"]


def test_an_event_has_its_value_as_far_as_it_had_come_then(engine):
    @fc.function
    def forks(s):
        children = s.fork(2)
        children += "order? " + fc.gen("order", type=Order, max_tokens=100)
        s += "number? " + fc.select("number", ["1", "2"])
        s += "order? " + fc.gen("text", max_tokens=100)
        children.join()

    state = forks.run(backend=engine, stream=True)
    events = list(state.events())
    for branch in (1, 2):
        seen = [event.partial for event in events if event.branch == branch]
        assert [each is None or type(each) is Order for each in seen]
        names = [each.customer for each in seen if each is not None and each.customer]
        assert "Ada".startswith(names[0])
        assert seen[-1].items[0].name == "mugs"
    text = [event for event in events if event.var == "text"]
    assert [event.partial for event in text] == [
        "".join(event.delta for event in text[: place + 1]) for place in range(len(text))
    ]
    assert [event.partial for event in events if event.var == "number"] == [state["number"]]


def test_an_event_of_a_loop_has_the_value_of_its_run(engine):
    @fc.function
    def loops(s):
        def body(s):
            s += "order? " + fc.gen("order", type=Order, max_tokens=100) + "\n"

        s.loop(body, max_iters=2)

    events = list(loops.run(backend=engine, stream=True).events())
    half = len(events) // 2  # both runs say the same
    whole = Order.model_validate_json(REPLY)
    assert events[half - 1].partial == events[-1].partial == whole
    assert events[0].partial == events[half].partial != whole


def test_before_the_first_character_there_is_nothing(engine):
    release = threading.Event()

    @fc.function
    def waits(s):
        s += "order? "
        assert release.wait(WAIT_S)
        s += fc.gen("order", type=Order, max_tokens=100)

    state = waits.run(backend=engine, stream=True)
    assert state.partial("order") is None
    release.set()
    assert state["order"].customer == "Ada"


def test_text_is_as_much_of_it_as_there_is(engine):
    state = orders.run(str, backend=engine, stream=True)
    for _ in state.events():
        seen = state.partial("order")
        assert REPLY.startswith(seen)
    assert state.partial("order") == REPLY


def test_what_was_cut_stays_as_far_as_it_came(engine):
    @fc.function
    def cut(s):
        s += "order? " + fc.gen("order", type=Order, max_tokens=20)

    state = cut.run(backend=engine, stream=True)
    assert not state.ok
    assert state.partial("order").customer == "Ada"
    assert state.partial("order").tone is None


def test_samples_choices_joined_and_own_variables_have_partials_too(engine):
    @fc.function
    def mixed(s):
        s["own"] = 3
        s += "order? " + fc.gen("many", type=Order, n=2, max_tokens=100)
        s += fc.select("choice", ["a", "b"])
        children = s.fork(2)
        children += "order? " + fc.gen("each", type=Order, max_tokens=100)
        children.join()

    state = mixed.run(backend=engine, stream=True)
    state.sync()
    assert state["each"] == state.partial("each")
    assert state.partial("own") == 3
    assert [each.customer for each in state.partial("many")] == ["Ada", "Ada"]
    assert state.partial("choice") == state["choice"]


def test_a_checked_value_comes_when_it_is_accepted(engine):
    state = orders.run(Order, check=lambda order: None, backend=engine, stream=True)
    assert [state.partial("order").customer for _ in state.events()] == ["Ada"]


def test_a_program_that_does_not_stream_has_nothing_to_show_before_the_end(engine):
    @fc.function
    def peeks(s):
        s += "order? " + fc.gen("order", type=Order, max_tokens=100)
        with pytest.raises(fc.UsageError, match="stream=True"):
            s.partial("order")
        s["order"]
        return s.partial("order")

    assert peeks.run(backend=engine).ret_value.customer == "Ada"


def test_a_name_that_there_is_not_is_told(engine):
    state = orders.run(Order, backend=engine)
    with pytest.raises(fc.UsageError, match="no variable 'odrer'"):
        state.partial("odrer")
