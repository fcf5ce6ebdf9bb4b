import pytest

import furcate as fc


def run(body, replies="R"):
    with fc.Mock(replies) as backend:
        return fc.function(body).run(backend=backend)


def num_messages(body, replies="R") -> int:
    with fc.Mock(replies) as backend:
        fc.function(body).run(backend=backend)
        return backend.num_messages


def test_appending_a_ref_fills_its_text_without_waiting():
    def body(s):
        s += fc.gen("a") + " and "
        s += s.ref("a") + "; " + s.ref("a").lower()
        return None

    assert num_messages(body) == 1
    with fc.Mock("R") as backend:
        assert fc.function(body).run(backend=backend).text() == "R and R; r"


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        (lambda ref: ref.strip(), "Ab, c"),
        (lambda ref: ref.lstrip(), "Ab, c "),
        (lambda ref: ref.rstrip(), " Ab, c"),
        (lambda ref: ref.strip(" A"), "b, c"),
        (lambda ref: ref.lower(), " ab, c "),
        (lambda ref: ref.upper(), " AB, C "),
        (lambda ref: ref.replace("b", "x"), " Ax, c "),
        (lambda ref: ref.removeprefix(" A"), "b, c "),
        (lambda ref: ref.removesuffix("c "), " Ab, "),
        (lambda ref: ref.strip().lower().replace(",", ""), "ab c"),
        (lambda ref: fc.join("-", [ref, "x", ref.strip()]), " Ab, c -x-Ab, c"),
    ],
)
def test_pure_operations_are_done_in_the_graph(operation, result):
    def body(s):
        s += fc.gen("a")
        return operation(s.ref("a"))

    assert run(body, " Ab, c ").ret_value == result
    assert num_messages(body, " Ab, c ") <= 2


def test_what_only_the_value_can_answer_waits_for_it():
    def body(s):
        s += fc.gen("a")
        ref = s.ref("a")
        assert str(ref) == f"{ref}" == "12"
        assert f"{ref:>4}" == "  12"
        assert int(ref) == 12
        assert float(ref) == 12.0
        assert len(ref) == 2
        assert ref == "12"
        assert ref != "13"
        assert ref == s.ref("a")
        assert list(ref) == ["1", "2"]
        assert "1" in ref
        assert bool(ref)
        assert hash(ref) == hash("12")
        assert {ref: 1}["12"] == 1
        assert repr(ref) == "Ref(gen 'a')"

    run(body, "12")


def test_the_ref_of_a_select_is_the_chosen_text():
    def body(s):
        s += (
            fc.select("a", ["yes", "no"]) + " " + s.ref("a")
            if "a" in s
            else fc.select("a", ["yes"])
        )
        s += "/" + s.ref("a").upper()
        return s.text()

    assert run(body).ret_value == "yes/YES"


def test_one_of_n_samples_is_chosen_by_index():
    def body(s):
        s += fc.gen("a", n=2) + " "
        s += s.ref("a")[1]
        with pytest.raises(fc.UsageError, match="index"):
            s.ref("a")[10**30]
        with pytest.raises(fc.UsageError, match="choose one"):
            s += s.ref("a")
        return s.text()

    assert run(body, lambda call: f"s{call.sample}").ret_value == "s0 s1"


def test_a_variable_that_the_program_has_set_has_a_ref_too():
    def body(s):
        s["a"] = "set"
        s["n"] = 3
        s += s.ref("a").upper()
        with pytest.raises(fc.UsageError, match="str"):
            s.ref("n")
        return s.text()

    assert run(body).ret_value == "SET"


def test_join_of_plain_strings_is_a_plain_string():
    assert fc.join(", ", ["a", "b"]) == "a, b"
    assert fc.join(", ", []) == ""
    with pytest.raises(TypeError, match="join"):
        fc.join(", ", ["a", 3])


def test_a_ref_of_another_program_is_refused():
    with fc.Mock("R") as backend:
        first = fc.function(lambda s: s.user(fc.gen("a")) and None).run(backend=backend)

        @fc.function
        def appends(s):
            s += first.ref("a")

        with pytest.raises(fc.UsageError, match="another program"):
            appends.run(backend=backend)

        @fc.function
        def returns(s):
            return [first.ref("a")]

        with pytest.raises(fc.UsageError, match="another program"):
            returns.run(backend=backend)

        @fc.function
        def joins(s):
            s += fc.gen("b")
            s += fc.join("", [s.ref("b"), first.ref("a")])

        with pytest.raises(fc.UsageError, match="different programs"):
            joins.run(backend=backend)


def test_what_a_join_has_gathered_is_a_ref_of_a_list():
    @fc.function
    def gathers(s):
        with s.copy() as child:
            child += "a" + fc.gen("x")
        forks = s.fork(2)
        forks += fc.gen("y") + fc.select("z", ["p", "q"])
        forks.join()
        s += fc.join("+", s.ref("x")) + fc.join("-", s.ref("y")) + fc.join("/", s.ref("z"))

    state = gathers.run(backend=fc.Mock(lambda call: 1 if call.choices else "m"))
    assert state.text() == "m" + "m-m" + "q/q"
    assert state.ref("y").get() == ["m", "m"]


def test_gathered_values_with_a_type_have_no_ref_of_a_list():
    @fc.function
    def gathers(s):
        forks = s.fork(2)
        forks += fc.gen("n", type=int)
        forks.join()
        s.ref("n")

    with pytest.raises(fc.UsageError, match=r"values have a type: use group.refs\('n'\)"):
        gathers.run(backend=fc.Mock("1"))


@pytest.mark.parametrize(
    ("method", "args"), [("strip", (3,)), ("replace", ("a", None)), ("removeprefix", (b"x",))]
)
def test_text_methods_take_text(method, args):
    @fc.function
    def strips(s):
        s += fc.gen("x")
        getattr(s.ref("x"), method)(*args)

    with pytest.raises(TypeError, match=rf"{method}\(\) of a Ref takes text, got"):
        strips.run(backend=fc.Mock("m"))
