from typing import Literal

import pydantic
import pytest

import furcate as fc


class Ticket(pydantic.BaseModel):
    name: str


@fc.function
def straight(s, question):
    s += fc.system("x" * 100)
    s += fc.user(question)
    group = s.fork(2)
    group += fc.gen("a", max_tokens=5, stop="!")
    group.join("append")
    s += s.ref("b").lower() if "b" in s else fc.special("<|im_end|>")
    s += fc.select("c", ["u", "v"])


def test_a_straight_line_program_has_no_force_points():
    text = straight.explain("why?")
    assert "force points: none" in text
    for part in (
        "[0] system begin",
        "'why?'",
        "(100 characters)",
        "[0] fork into [1, 2]",
        "[1] value 0 = gen 'a' max_tokens=5 stop=('!',)",
        "[0] append [1, 2]",
        "[0] special '<|im_end|>'",
        "[0] value 2 = select 'c' ['u', 'v'] by token_length_normalized",
        "test_explain.py:",
    ):
        assert part in text


def test_force_points_are_listed_with_their_lines():
    @fc.function
    def forces(s):
        s += fc.gen("a")
        s += fc.gen("n", type=int)
        assert s["n"] + 1 == 1
        if s["a"] == "x":
            return 1
        s += fc.gen("b") + s.text()
        return s.ref("b").upper().get()

    text = forces.explain()
    first = forces._body.__code__.co_firstlineno
    assert f"test_explain.py:{first + 4}  waits for gen 'n' of test_explain.py:{first + 3}" in text
    assert "force points: 3" in text
    assert "value 4 = upper(value 3)" in text


@pytest.mark.parametrize("as_type", [str, int, float, bool, list[int], Literal["a", "b"], None])
def test_simple_types_have_placeholders(as_type):
    @fc.function
    def forces(s):
        s += fc.gen("a", type=as_type)
        s["a"]

    assert "stopped" not in forces.explain()


def test_a_body_that_cannot_go_on_with_placeholders_says_so():
    @fc.function
    def forces(s):
        s += fc.gen("a", type=Ticket)
        s["a"].name.upper()

    text = forces.explain()
    assert "waits for gen 'a'" in text
    assert "stopped" in text


def test_a_loop_that_no_placeholder_ends_is_cut():
    @fc.function
    def loops(s):
        while True:
            s += fc.gen("a")
            if s["a"] == "done":
                break

    assert "a loop depends on a generated value" in loops.explain()


def test_explain_needs_no_backend_and_takes_run_keywords():
    assert "temperature=0.5" in straight.explain("q", temperature=0.5)
    with pytest.raises(TypeError):
        straight.explain()


def test_it_shows_what_shapes_an_output():
    @fc.function
    def program(s):
        s += fc.gen("a", regex="[a-z]+") + fc.gen("b", type=int)
        s += fc.gen("c", json_schema={"type": "string", "maxLength": 5, "description": "d" * 90})

    shown = program.explain()
    assert "gen 'a' max_tokens=128 regex=[a-z]+\n" in shown
    assert """gen 'b' max_tokens=128 json_schema={"type":"integer"}\n""" in shown
    assert """json_schema={"type":"string","maxLength":5,"description":"ddd""" in shown
    assert "ddd...\n" in shown
