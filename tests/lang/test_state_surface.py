import pytest

import furcate as fc


def run(body, replies="R", **keywords):
    with fc.Mock(replies) as backend:
        return fc.function(body).run(backend=backend, **keywords)


def test_a_value_is_forced_where_python_needs_it():
    def body(s):
        s += fc.gen("a")
        s += "then " if s["a"] == "R" else "else "
        s += fc.gen("b")
        return s["a"] + s["b"]

    assert run(body).ret_value == "RR"


def test_variables_can_be_set_tested_and_read_in_every_spelling():
    def body(s):
        s["mine"] = 3
        s.set_var("other", [1])
        s += fc.gen("a")
        assert "mine" in s
        assert "a" in s
        assert "b" not in s
        assert s.get_var("mine") == 3
        assert s["other"] == [1]
        return s.get_var("a")

    assert run(body).ret_value == "R"


def test_an_unknown_variable_is_a_key_error_that_names_the_known_ones():
    def body(s):
        s += fc.gen("a")
        s["b"]

    with pytest.raises(KeyError) as raised:
        run(body)
    assert isinstance(raised.value, fc.UsageError)
    assert str(raised.value) == "no variable 'b' on this branch; there are: 'a'"


def test_roles_are_methods_and_context_managers():
    def methods(s):
        s.system("be brief")
        s.user("hi " + fc.gen())
        s.assistant(fc.gen("a"))
        return s.text()

    def blocks(s):
        with s.system():
            s += "be brief"
        with s.user():
            s += "hi "
            s += fc.gen()
        with s.assistant():
            s += fc.gen("a")
        return s.text()

    assert run(methods).ret_value == run(blocks).ret_value


@pytest.mark.timeout(10)
def test_an_exception_inside_a_role_closes_it_and_propagates():
    def body(s):
        try:
            with s.user():
                s += "half"
                raise LookupError("mine")
        except LookupError:
            s += fc.assistant(fc.gen("a"))
        return s.text()

    text = run(body).ret_value
    assert text == "<|im_start|>user\nhalf<|im_end|>\n<|im_start|>assistant\nR<|im_end|>\n"

    def escapes(s):
        with s.user():
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run(escapes)


def test_text_and_messages_agree():
    def body(s):
        s += fc.system("s") + fc.user("  indented\n") + fc.assistant("a " + fc.gen("x") + " z")
        with s.user():
            s += "open"
            return s.messages(), s.text()

    messages, text = run(body).ret_value
    assert messages == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "  indented\n"},
        {"role": "assistant", "content": "a R z"},
        {"role": "user", "content": "open"},
    ]
    rendered = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    assert rendered.removesuffix("<|im_end|>\n") == text


def test_text_is_the_text_at_that_moment():
    def body(s):
        s += "a"
        first = s.text()
        s += "b"
        return first, s.text()

    assert run(body).ret_value == ("a", "ab")


def test_text_can_still_be_asked_for_after_the_end_but_nothing_appended():
    with fc.Mock("R") as backend:
        state = fc.function(lambda s: s.user(fc.gen("a")) and None).run(backend=backend)
        assert state.text() == "<|im_start|>user\nR<|im_end|>\n"
        assert state.messages() == [{"role": "user", "content": "R"}]
        with pytest.raises(fc.UsageError, match="has ended"):
            state += "more"


def test_repr_shows_what_is_known_and_waits_for_nothing():
    def body(s):
        s += "Q: " + fc.gen("a")
        before = repr(s)
        s.sync()
        return before, repr(s)

    assert run(body).ret_value == ("ProgramState(Q: <gen 'a'>)", "ProgramState(Q: R)")


def test_usage_adds_up_and_meta_data_say_why_it_ended():
    def body(s):
        s += "one two" + fc.gen("a", stop="!") + fc.gen("b", max_tokens=1)

    state = run(body, replies=["x y! z", "p q"])
    assert state.get_meta_info("a")["finish_reason"] == {"type": "stop", "matched": "!"}
    assert state.get_meta_info("b")["finish_reason"] == {"type": "length"}
    assert state["a"] == "x y"
    assert state.usage.completion == 3


def test_a_run_with_a_seed_keeps_it_and_a_run_without_draws_one():
    def body(s):
        s += fc.gen("a")

    assert run(body, seed=7).seed == 7
    assert run(body).seed != run(body).seed


def test_ret_value_holds_values_where_the_body_returned_refs():
    def body(s):
        s += fc.gen("a")
        return {"list": [s.ref("a"), 1], "tuple": (s.ref("a").lower(),), "plain": None}

    assert run(body).ret_value == {"list": ["R", 1], "tuple": ("r",), "plain": None}


def test_ok_and_error_of_a_good_run():
    state = run(lambda s: s.user(fc.gen("a")) and None)
    assert state.ok
    assert not state.error
    assert state.error() is None
    assert str(state.error) == ""


def test_a_message_of_any_role_is_a_turn_or_a_block():
    def turn(s):
        s.message("critic", "too long")
        s.message("user", fc.gen("a"))
        return s.messages()

    def block(s):
        with s.message("critic"):
            s += "too long"
        with s.message("user"):
            s += fc.gen("a")
        return s.messages()

    expected = [{"role": "critic", "content": "too long"}, {"role": "user", "content": "R"}]
    assert run(turn).ret_value == run(block).ret_value == expected


@pytest.mark.parametrize("role", ["", None, 3])
def test_a_message_needs_a_role(role):
    with pytest.raises(fc.UsageError, match=r"message\(\).*role"):
        run(lambda s: s.message(role, "x"))
