"""The pure operations: conditions, order, truth, patterns and paths, compared with Python."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furcate.errors import CapacityError, UsageError
from furcate.runtime.graph.cell import Ready
from furcate.runtime.graph.compare import element, elements_of, equal, truth
from furcate.runtime.graph.let import OPS, literal, run_let

texts = st.text("ab1. -é\n", max_size=6)
numbers = st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6, allow_nan=False)
elements = texts | numbers | st.booleans() | st.none()
values = elements | st.lists(elements, max_size=4)


def let(op: str, *args: object) -> object:
    given = [arg if isinstance(arg, Ready) else literal(arg) for arg in args]
    return run_let(op, given, lambda _: None).plain


@given(texts, texts)
def test_two_texts_are_equal_if_they_are_the_same(left: str, right: str) -> None:
    assert let("eq", left, right) is (left == right)
    assert let("ne", left, right) is (left != right)


@given(numbers, numbers)
def test_numbers_compare_as_numbers_also_where_one_is_a_text(left: float, right: float) -> None:
    for one, other in ((left, right), (str(left), right), (f" {left}\n", right)):
        if "e" in str(left):  # as a text it may have lost a digit
            continue
        assert let("eq", one, other) is (left == right)
        assert let("lt", one, other) is (left < right)
        assert let("le", one, other) is (left <= right)
        assert let("gt", one, other) is (left > right)
        assert let("ge", one, other) is (left >= right)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("1", 1, True), ("01", 1, True), ("1.0", 1, True), ("1", "1.0", False), ("one", 1, False),
        ("1_0", 10, False), ("nan", 1, False), ("", 0, False), (None, None, True),
        (None, "None", False), (None, 0, False), (True, "true", True), (True, "True", True),
        (False, "no", False), (True, 1, True), (True, 2, False), ([1, "a"], ["1", "a"], True),
        ([1], [1, 2], False), ([1], "1", False), ("9" * 5000, 1, False),
    ],
)  # fmt: skip
def test_what_is_equal(left: object, right: object, same: bool) -> None:
    assert equal(left, right) is same
    assert equal(right, left) is same


@given(values, values)
def test_equality_is_symmetric_and_ne_is_its_opposite(left: object, right: object) -> None:
    assert equal(left, right) is equal(right, left)
    assert let("ne", left, right) is not let("eq", left, right)


@pytest.mark.parametrize(
    ("value", "holds"),
    [("", False), ("false", False), (" False\n", False), ("0", False), ("null", False),
     ("None", False), ("no", True), ("00", True), ("true", True), (0, False), (0.5, True),
     (None, False), ([], False), ([0], True), (True, True)],
)  # fmt: skip
def test_what_is_true(value: object, holds: bool) -> None:
    assert truth(value) is holds
    assert let("not", value) is not holds


@given(st.lists(values, min_size=1, max_size=5))
def test_and_and_or_are_those_of_truth(given_values: list[object]) -> None:
    assert let("and", *given_values) is all(map(truth, given_values))
    assert let("or", *given_values) is any(map(truth, given_values))


@given(texts, texts, st.lists(texts, max_size=4))
def test_contains_and_is_in(text: str, part: str, others: list[str]) -> None:
    assert let("contains", text, part) is (part in text)
    assert let("contains", others, part) is (part in others)
    assert let("is_in", part, *others) is (part in others)
    assert let("is_in", part, others) is (part in others)


def test_texts_and_numbers_have_no_order_among_each_other() -> None:
    assert let("lt", "a", "b") is True
    assert let("lt", "10", "9") is False
    for left, right in (("a", 1), (None, 1), ([1], [2])):
        with pytest.raises(UsageError, match="have no order"):
            let("lt", left, right)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=6))
def test_argmax_is_the_first_of_the_greatest(found: list[int]) -> None:
    assert let("argmax", *found) == found.index(max(found))
    assert let("argmax", *map(str, found)) == found.index(max(found))


def test_argmax_needs_numbers() -> None:
    with pytest.raises(UsageError, match="numbers are needed, got 'x' as operand 1"):
        let("argmax", 1, "x")


@given(st.lists(st.sampled_from(["a", "b", 1, "1", 2.0, True, None]), min_size=1, max_size=8))
def test_vote_is_what_most_are_equal_to(found: list[object]) -> None:
    winner = let("vote", *found)
    assert winner in found
    assert any(winner is each or winner == each for each in found)
    counts = [sum(each == other and type(each) is type(other) for other in found) for each in found]
    assert sum(equal(winner, each) for each in found) >= max(counts)


def test_vote_gives_the_first_of_equals_and_says_where_it_comes_from() -> None:
    one, other = Ready("a", "a", source=3), Ready("b", "b", source=4)
    assert run_let("vote", [one, other, other, one], lambda _: None).source == 3


@given(texts, st.sampled_from(["a", "[ab]+", r"\d+(\.\d)?", "^a", "é|b", r"(?i)A"]))
def test_patterns_match_as_pythons_do(text: str, pattern: str) -> None:
    import re

    found = re.search(pattern, text)
    assert let("matches", text, pattern) is (found is not None)
    assert let("regex", text, pattern, 0) == (found.group() if found else None)


def test_a_group_of_a_pattern_is_asked_for_by_number_or_name() -> None:
    assert let("regex", "Action: look", r"Action: (?P<verb>\w+)", 1) == "look"
    assert let("regex", "Action: look", r"Action: (?P<verb>\w+)", "verb") == "look"
    assert let("regex", "nothing", r"(a)|(b)", 1) is None
    with pytest.raises(UsageError, match="no group 3"):
        let("regex", "a", "(a)", 3)
    with pytest.raises(UsageError, match=r"cannot be used"):
        let("matches", "a", r"(a)\1")
    with pytest.raises(UsageError, match="at most 1024 characters"):
        let("matches", "a", "a" * 2000)


def test_a_pattern_that_would_take_another_engine_for_ever_takes_no_time() -> None:
    assert let("matches", "a" * 100_000, "(a+)+b") is False


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-100, 100) | st.text("ab\"\\'é", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab\"\\' é"), inner),
    max_leaves=8,
)


@given(json_values, st.data())
def test_a_path_leads_to_the_element(value: object, data: st.DataObject) -> None:
    path, found = "$", value
    while isinstance(found, (list, dict)) and found and data.draw(st.booleans()):
        if isinstance(found, list):
            index = data.draw(st.integers(-len(found), len(found) - 1))
            path, found = f"{path}[{index}]", found[index]
        else:
            key = data.draw(st.sampled_from(sorted(found)))
            path, found = f"{path}[{json.dumps(key)}]", found[key]
    result = let("json", json.dumps(value), path)
    if isinstance(found, (list, dict)):
        assert json.loads(str(result)) == found
    else:
        assert result == found
        assert type(result) is type(found)


@pytest.mark.parametrize(
    ("text", "path", "why"),
    [
        ('{"a": [1]}', "$.b", "nothing at"), ('{"a": [1]}', "$.a[1]", "nothing at"),
        ('{"a": 1}', "$.a.b", "nothing at"), ("{", "$", "is no JSON"),
        ("{}", "a", "begins with"), ("{}", "$..a", "cannot be read at"),
        ("{}", "$[*]", "cannot be read at"),
    ],
)  # fmt: skip
def test_a_path_that_leads_nowhere_says_why(text: str, path: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        let("json", text, path)


def test_lists_are_joined_and_taken_apart() -> None:
    assert let("concat", "-", "a", ["b", 3, None], "c") == "a-b-3-None-c"
    assert let("list", "a", 1, ["b"]) == ["a", 1, ["b"]]
    assert let("len", ["a", "b"]) == 2
    assert let("item", ["a", "b"], -1) == "b"
    with pytest.raises(UsageError, match="list of lists"):
        let("list", [["a"]])


def test_the_text_of_a_choice_is_what_operations_work_on() -> None:
    choice = Ready(1, "no", is_choice=True)
    assert let("eq", choice, "no") is True
    assert let("list", choice) == ["no"]
    assert let("upper", choice) == "NO"


def test_elements_of_a_text_are_those_of_the_array_that_it_spells() -> None:
    assert [e.plain for e in elements_of(literal('["a", 1, null, [2]]'))] == ["a", 1, None, "[2]"]
    for bad in ("{}", "word", 3):
        with pytest.raises(UsageError, match="JSON array"):
            elements_of(literal(bad))
    assert element(10**30).plain == str(10**30)


def test_every_operation_checks_how_many_operands_it_gets() -> None:
    for op, known in OPS.items():
        if known.least:
            with pytest.raises(UsageError, match=f"let '{op}' takes {known.least}"):
                let(op, *["a"] * (known.least - 1))
    with pytest.raises(UsageError, match="not known"):
        let("explode", 1)


def test_what_an_operation_makes_is_charged_before_it_is_made() -> None:
    def charge(count: int) -> None:
        if count > 100:
            raise CapacityError("too much")

    with pytest.raises(CapacityError, match="let 'concat': too much"):
        run_let("concat", [literal("-"), literal("x" * 200)], charge)
