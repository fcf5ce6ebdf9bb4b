import pytest

import furcate as fc


@fc.function
def appends(s, expr):
    s += expr


def text_of(expr) -> str:
    with fc.Mock("R") as backend:
        return appends.run(expr, backend=backend).text()


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        ("a" + fc.gen() + "b", "aRb"),
        (fc.gen() + "b", "Rb"),
        (fc.gen() + fc.gen(), "RR"),
        (fc.user("hi"), "<|im_start|>user\nhi<|im_end|>\n"),
        (fc.user_begin() + "hi" + fc.user_end(), "<|im_start|>user\nhi<|im_end|>\n"),
        (fc.assistant(fc.select(choices=["x", "y"])), "<|im_start|>assistant\nx<|im_end|>\n"),
        (fc.special("<|im_end|>") + "a", "<|im_end|>a"),
        (
            fc.system("a") + fc.user("b"),
            "<|im_start|>system\na<|im_end|>\n<|im_start|>user\nb<|im_end|>\n",
        ),
    ],
)
def test_an_expression_appends_its_parts_in_order(expr, text):
    assert text_of(expr) == text


def test_building_an_expression_has_no_effect_and_it_can_be_used_again():
    expr = "a" + fc.gen()
    assert text_of(expr) == text_of(expr) == "aR"
    assert text_of(expr + "b") == "aRb"


@pytest.mark.parametrize(
    ("value", "message"), [(None, "None"), (7, "str"), (["a"], "list"), (b"x", "bytes")]
)
def test_only_strings_and_expressions_can_be_appended(value, message):
    with pytest.raises(TypeError, match=message):
        text_of(value)
    with pytest.raises(TypeError, match=message):
        "a" + fc.gen() + value
    with pytest.raises(TypeError, match=message):
        fc.user(value)


def test_half_a_surrogate_pair_is_refused_where_it_is_appended():
    with pytest.raises(fc.UsageError, match="surrogate"):
        text_of("a\ud800")


def test_roles_may_not_nest_and_must_match():
    with pytest.raises(fc.UsageError, match="inside the role 'user'"):
        text_of(fc.user(fc.system("x")))
    with pytest.raises(fc.UsageError, match="'assistant' ends"):
        text_of(fc.user_begin() + fc.assistant_end())


@pytest.mark.parametrize("name", ["", None, 3])
def test_special_takes_a_name(name):
    with pytest.raises(fc.UsageError, match="control token"):
        fc.special(name)
