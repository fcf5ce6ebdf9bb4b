"""Forks over lists that are to come."""

from __future__ import annotations

import pytest

import furcate as fc


def test_a_fork_over_a_list_that_is_to_come_has_a_child_for_each_element(run):
    def body(s):
        s += fc.gen("list") + " "
        group = s.fork(over=s.ref("list"))
        s += "after "
        group += lambda index: "child " + index
        group.map(lambda child: child.__iadd__(" of " + child.item + ": " + fc.gen("leaf")))
        group.join()
        s += fc.join("|", group.refs("leaf"))

    texts = []

    def reply(call):
        texts.append(call.text)
        return '["a", "b"]' if len(texts) == 1 else f"r{len(texts)}"

    state = run(body, reply)
    assert texts[1:] == ['["a", "b"] child 0 of a: ', '["a", "b"] child 1 of b: ']
    assert state.text() == '["a", "b"] after r2|r3'
    assert state["leaf"] == ["r2", "r3"]


def test_a_child_that_fails_is_none_in_the_list(run):
    def body(s):
        group = s.fork(over=s.ref("items"))
        group += fc.gen("a") + fc.gen("n", type=int)
        group.join()

    def program(s):
        s["items"] = "[1, 2, 3]"
        body(s)

    count = 0

    def reply(call):
        nonlocal count
        count += 1
        if count == 3:
            raise RuntimeError("no answer")
        return str(count)

    state = run(program, reply)
    assert [value is None for value in state["n"]].count(True) == 1
    assert all(value is None or isinstance(value, int) for value in state["n"])
    assert state.ok


def test_a_fork_over_a_list_ends_with_its_first_read_or_with_the_body(run):
    def read(s):
        s["items"] = '["a"]'
        group = s.fork(over=s.ref("items"))
        group += fc.gen("x")
        assert group["x"] == ["r1"]
        with pytest.raises(fc.UsageError, match="has ended"):
            group += "more"
        with pytest.raises(fc.UsageError, match=r"no child .* sets 'y'"):
            group.refs("y")

    run(read)
    texts = []

    def left_open(s):
        s["items"] = '["a", "b"]'
        group = s.fork(over=s.ref("items"))
        group += fc.gen("x")

    run(left_open, lambda call: texts.append(call.text) or "r")
    assert len(texts) == 2


def test_forks_over_lists_nest_and_work_in_async_programs(run):
    @fc.function
    async def program(s):
        s += fc.gen("list")
        over = s.ref("list")
        group = s.fork(over=over)

        def grow(child):
            inner = child.fork(over=over)
            inner += fc.gen("leaf")
            deepest = child.fork(over=over)
            deepest += fc.gen("x", n=2)
            deepest.join()
            inner.join()

        group.map(grow)
        group.join()
        return await s.aget("leaf"), s.ref("x")

    with fc.Mock('["a", "b"]') as backend:
        leaves, deep = program.run(backend=backend).ret_value
    assert leaves == [['["a", "b"]'] * 2] * 2
    assert len(deep) == 2


def test_the_fork_point_is_where_the_fork_was_asked_for(run):
    texts = []

    def body(s):
        s["items"] = '["a"]'
        s += "one "
        group = s.fork(over=s.ref("items"))
        s += "two "
        group += fc.gen("x")
        group.join()
        s += fc.gen("y")

    run(body, lambda call: texts.append(call.text) or "r")
    assert sorted(texts) == ["one ", "one two "]
