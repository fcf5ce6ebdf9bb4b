import threading

import pytest

import furcate as fc
from furcate.protocol.graph import Fork


def run(body, replies="R", **keywords):
    with fc.Mock(replies) as backend:
        return fc.function(body).run(backend=backend, **keywords)


def test_children_begin_with_the_parents_text_and_variables():
    def body(s):
        s += "root "
        s["mine"] = 1
        group = s.fork(2)
        group += lambda index: f"child {index}"
        return [child.text() for child in group], [child["mine"] for child in group], len(group)

    assert run(body).ret_value == (["root child 0", "root child 1"], [1, 1], 2)


def test_a_group_takes_an_expression_a_list_or_a_function():
    def body(s):
        group = s.fork(2)
        group += "a"
        group += ["b", fc.gen()]
        group += lambda index: str(index)
        group[0].user("u")
        return [child.text() for child in group]

    assert run(body).ret_value == ["ab0<|im_start|>user\nu<|im_end|>\n", "aR1"]


@pytest.mark.parametrize(
    ("value", "error"), [(["a"], fc.UsageError), (3, TypeError), (None, TypeError)]
)
def test_a_group_refuses_what_does_not_fit(value, error):
    def body(s):
        group = s.fork(2)
        group += value

    with pytest.raises(error):
        run(body)


def test_a_fork_over_a_list_gives_each_child_its_item():
    def body(s):
        group = s.fork(over=["x", "y"])
        for child in group:
            child += child.item
        return [child.text() for child in group], len(s.fork(over=[]))

    assert run(body).ret_value == (["x", "y"], 0)


@pytest.mark.parametrize("n", [0, -1, True, "2", None])
def test_a_fork_needs_a_number(n):
    with pytest.raises(fc.UsageError, match="fork"):
        run(lambda s: s.fork(n))


def test_join_gathers_what_the_children_have_set_aligned():
    def body(s):
        group = s.fork(3)
        for index, child in enumerate(group):
            child += fc.gen("all")
            if index == 1:
                child += fc.gen("one")
                child["local"] = 7
        group.join()
        return s["all"], s["one"], s["local"]

    assert run(body).ret_value == (["R"] * 3, [None, "R", None], [None, 7, None])


@pytest.mark.timeout(10)
def test_a_variable_that_existed_before_the_fork_is_gathered_when_a_child_sets_it():
    def body(s):
        s += fc.gen("a")
        group = s.fork(2)
        group += fc.gen("a")
        group.join()
        return s["a"]

    replies = iter(["before", "first", "second"])
    assert run(body, lambda call: next(replies)).ret_value == ["first", "second"]


def test_join_append_goes_on_with_the_childrens_text():
    def body(s):
        s += "root:"
        group = s.fork(2)
        group += lambda index: f" {index}" + fc.gen()
        group.join("append")
        s += "."
        return s.text()

    assert run(body).ret_value == "root: 0R 1R."


def test_messages_after_join_append_agree_with_the_text():
    def body(s):
        s += fc.user_begin() + "q"
        group = s.fork(2)
        group += lambda index: str(index)
        group.join("append")
        s += fc.user_end()
        return s.messages(), s.text()

    assert run(body).ret_value == (
        [{"role": "user", "content": "q01"}],
        "<|im_start|>user\nq01<|im_end|>\n",
    )


def test_a_joined_branch_takes_nothing_more():
    def body(s):
        group = s.fork(2)
        group.join()
        with pytest.raises(fc.UsageError, match="joined already"):
            group.join()
        group += "late"

    with pytest.raises(fc.UsageError, match="has been joined"):
        run(body)


def test_join_refuses_an_unknown_mode_and_an_open_role():
    def body(s):
        group = s.fork(1)
        with pytest.raises(fc.UsageError, match="'sum'"):
            group.join("sum")
        group += fc.user_begin()
        group.join()

    with pytest.raises(fc.UsageError, match="'user' open"):
        run(body)


def test_the_refs_of_a_group_go_into_the_parent_without_waiting():
    def body(s):
        group = s.fork(3)
        group += lambda index: f"{index}" + fc.gen("note")
        group.join()
        s += "Notes: " + fc.join(", ", group.refs("note"))
        s += "; " + fc.join(", ", s.ref("note"))

    with fc.Mock(lambda call: "n" + call.text) as backend:
        state = fc.function(body).run(backend=backend)
        assert backend.num_messages == 1
        assert state.text() == "Notes: n0, n1, n2; n0, n1, n2"
        assert state["note"] == ["n0", "n1", "n2"]


def test_scores_of_a_group():
    def body(s):
        group = s.fork(2)
        group += fc.select("v", ["a", "b"], scores=True)
        return [scores["a"] for scores in group.scores("v")]

    assert run(body).ret_value == [0.8, 0.8]


def test_a_copy_is_a_fork_of_one_whose_variables_come_back():
    def body(s):
        s += "root "
        with s.copy() as c:
            c += "aside " + fc.gen("a")
        s += "on"
        return s["a"], s.text()

    assert run(body).ret_value == (["R"], "root on")


def test_nested_forks():
    def body(s):
        outer = s.fork(2)
        for child in outer:
            inner = child.fork(2)
            inner += fc.gen("leaf")
            inner.join()
        outer.join()
        return s["leaf"]

    assert run(body).ret_value == [["R", "R"], ["R", "R"]]


@pytest.mark.timeout(10)
def test_a_fork_of_200_needs_no_thread_and_one_message():
    def body(s):
        group = s.fork(200)
        group += fc.gen("a")
        group.join()
        return threading.active_count()

    with fc.Mock("R") as backend:
        fc.function(lambda s: None).run(backend=backend)
        before = threading.active_count()
        state = fc.function(body).run(backend=backend)
    assert state.ret_value == before
    assert state["a"] == ["R"] * 200


@pytest.mark.timeout(10)
def test_a_nested_fork_of_one_branch_does_not_wait_for_the_other(by_hand):
    """Everything is sent before anything has come back: the runtime sees both forks at once."""

    def body(s):
        fast, slow = s.fork(2)
        slow += fc.gen("slow", max_tokens=1000)
        fast += fc.gen("fast")
        children = fast.fork(2)
        children += fc.gen("child")

    seen = []

    def react(channel, request):
        if hasattr(request, "nodes"):
            seen.append(sum(isinstance(node, Fork) for node in request.nodes))
            events = by_hand.values(request.program, request.nodes)
            return [*events, by_hand.finished(request.program)]
        return []

    backend, _ = by_hand(react)
    fc.function(body).run(backend=backend)
    assert seen == [2]
