"""What is only appended is not waited for, and nothing else changes."""

from __future__ import annotations

import contextlib
import linecache
import runpy
import textwrap
from pathlib import Path

import pytest
from tests.fakes.in_process import context_session

import furcate as fc
from furcate import assistant, join, user
from furcate.lang import _function, _peephole
from furcate.lang._leaf import leaf

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def reply(call):
    return call.choices[0] if call.choices else f" {call.text[-3:]} "


def forces(program, *args):
    shown = program.explain(*args)
    found = shown.partition("force points: ")[2]
    return 0 if found.startswith("none") else int(found.split()[0])


def outcome(program, *args, **keywords):
    with fc.Mock(reply) as backend:
        state = program.run(*args, backend=backend, **keywords)
        return state.text(), state.ret_value


def agree(body, *args, waits=0):
    """The body gives the same with and without; with it waits that often."""
    plain, lazy = fc.function(body, peephole=False), fc.function(body)
    assert outcome(lazy, *args) == outcome(plain, *args)
    assert forces(lazy, *args) == waits
    assert forces(plain, *args) > waits
    return outcome(plain, *args)


def one_child(s):
    child = s.fork(1)[0]
    child += "tip" + fc.gen("tip")
    return child


# Where it applies ---------------------------------------------------------------------------------


def appended_alone(s):
    child = one_child(s)
    s += child["tip"]


def appended_in_a_chain(s):
    child = one_child(s)
    s += "Tip: " + child["tip"] + ", again " + child["tip"] + "\n"


def appended_in_an_f_string(s):
    child, n = one_child(s), 3
    s += f"Tip {n}: {child['tip']} {n:04d} {n!r} {{}}"


def appended_with_pure_methods(s):
    child = one_child(s)
    s += child["tip"].strip().upper() + child["tip"].replace("t", "T").removeprefix(" ")
    s += f"{child['tip'].strip('t ').lower()}." + child["tip"].rstrip().lstrip().removesuffix("x")


def appended_conditionally(s):
    child = one_child(s)
    s += child["tip"] if s else "none"


def appended_in_roles(s):
    child = one_child(s)
    s += fc.user("Q: " + child["tip"])
    s += assistant(child["tip"])
    s.user(f"{child['tip']}?")
    s.message("assistant", "m" + child["tip"])
    s += user(child["tip"].strip()) + assistant("b" + fc.gen("c"))
    with s.user():
        s += child["tip"]


def appended_by_join(s):
    children = s.fork(3)
    children += lambda index: f"{index}" + fc.gen("tip")
    s += fc.join("\n", [child["tip"] for child in children])
    s += join(", ", (child["tip"].strip() for child in children))
    s += fc.join("+", [children[0]["tip"], "a", children[1]["tip"]])


def appended_to_a_group(s):
    child = one_child(s)
    group = s.fork(2)
    group += child["tip"]
    group += [child["tip"], child["tip"].upper()]
    group += [each["tip"] for each in (child, child)]
    group[0] += child["tip"]
    group.join("append")


def appended_from_a_select(s):
    child = s.fork(1)[0]
    child += "which" + fc.select("tip", ["yes", "no"])
    s += child["tip"]


def appended_from_itself(s):
    s += "a" + fc.gen("tip")
    s += s["tip"]


def appended_from_what_was_elected(s):
    children = s.fork(2)
    children += lambda index: f"{index}" + fc.gen("tip") + fc.select("score", ["2", "1"])
    (best,) = children.best("score")
    s += best["tip"] + "!"


def appended_from_joined_children(s):
    children = s.fork(2)
    children += lambda index: f"{index}" + fc.gen("tip")
    children.join()
    for child in children:
        s += child["tip"]


APPLIES = [value for name, value in list(globals().items()) if name.startswith("appended_")]


@pytest.mark.parametrize("body", APPLIES, ids=lambda body: body.__name__)
def test_a_value_that_is_only_appended_is_not_waited_for(body):
    assert fc.function(body)._body is not body
    agree(body)


def test_a_tree_of_tips_is_one_message_and_not_several():
    def body(s, topic):
        tips = s.fork(3)
        tips += lambda index: f"{topic} {index}: " + fc.gen("tip", max_tokens=4)
        for index, tip in enumerate(tips):
            detail = tip.fork(1)[0]
            detail += "In detail: " + tip["tip"].strip() + fc.gen("detail", max_tokens=4)
            s += f"Tip {index}: {tip['tip']}, that is, {detail['detail']}\n"
        s += "In summary: " + fc.gen("summary", max_tokens=4)

    with context_session(num_pages=512) as backend:
        found = []
        for program in (fc.function(body), fc.function(body, peephole=False)):
            before = backend.num_messages
            state = program.run("health", backend=backend, seed=2)
            found.append((state.text(), backend.num_messages - before))
        (lazy, few), (plain, many) = found
        assert lazy == plain
        assert few <= 2 < many
        assert forces(fc.function(body), "health") == 0


# Where it does not --------------------------------------------------------------------------------


def kept_a_text_of_its_own(s):
    child, text = one_child(s), ""
    text += child["tip"] + "a"
    text += f"{child['tip']}b"
    s += text.upper()
    return text


def kept_a_list_of_its_own(s):
    child, found = one_child(s), []
    found += [child["tip"]]
    found += [child["tip"] for _ in range(2)]
    return found


def kept_a_function_called_user(s):
    def user(text):
        assert isinstance(text, str)
        return text[::-1]

    child = one_child(s)
    s += user(child["tip"])


def kept_a_list_with_the_name_of_what_is_appended_to(s):
    children, x = [one_child(s)], []
    x += [x["tip"] for x in children]
    return x


def kept_a_typed_value(s):
    s += "n" + fc.gen("n", type=int, choices=["1", "2"])
    s += str(s["n"] + 1)
    total = 1
    total += s["n"]
    return total


def kept_a_typed_value_in_an_f_string(s):
    s += "n" + fc.gen("n", type=int, choices=["1", "2"])
    s += f"{s['n']}"


def kept_a_dictionary(s):
    words = {"tip": "w", 1: "one", (1, 2): "two"}
    s += words["tip"] + words[1] + f"{words[1, 2]}"
    s += one_child(s)["tip"][:2]


def kept_samples(s):
    s += "x" + fc.gen("x", n=2)
    s += s["x"][1]


def kept_a_condition(s):
    child = one_child(s)
    s += "yes" if child["tip"] else "no"


def kept_a_caught_failure(s):
    child = one_child(s)
    try:
        s += child["tip"] + "x"
    except fc.ProgramError:
        s += "failed"
    with contextlib.suppress(KeyError):
        s += child["nope"]


def kept_a_program_of_its_own(s):
    expr = fc.user(one_child(s)["tip"])

    @fc.function
    def inner(t):
        t += expr
        return t.text()

    with fc.Mock(reply) as backend:
        return inner.run(backend=backend).ret_value


def kept_what_the_program_has_set(s):
    s["x"] = "mine"
    s += s["x"] + f"{s['x']}"
    s["y"] = one_child(s)["tip"]
    s += s["y"]


KEPT = [value for name, value in list(globals().items()) if name.startswith("kept_")]


@pytest.mark.parametrize("body", KEPT, ids=lambda body: body.__name__)
def test_everything_else_is_evaluated_as_it_is_written(body):
    plain, lazy = fc.function(body, peephole=False), fc.function(body)
    assert outcome(lazy) == outcome(plain)


def test_a_failure_is_caught_where_it_is_written():
    def body(s):
        child = one_child(s)
        try:
            s += child["tip"]
        except fc.ProgramError:
            s += "failed"
        return s.text()

    def broken(call):
        raise RuntimeError("no")

    with fc.Mock(broken) as backend:
        assert fc.function(body).run(backend=backend).ret_value == "failed"


@pytest.mark.parametrize("peephole", [True, False])
def test_an_unknown_name_raises_in_its_line(peephole):
    def body(s):
        child = one_child(s)
        s += "a"
        s += child["nope"]

    with fc.Mock("") as backend, pytest.raises(fc.UsageError, match="nope") as caught:
        fc.function(body, peephole=peephole).run(backend=backend)
    frames = [frame for frame in caught.traceback if str(frame.path) == __file__]
    assert frames[-1].lineno + 1 == body.__code__.co_firstlineno + 3


# The function stays what it is --------------------------------------------------------------------


def test_lines_names_defaults_closures_and_attributes_are_those_of_the_source():
    outside, count = "out", 0

    def body(s, first="a", *rest, second: str = "b", **more):
        """Its words."""
        nonlocal count
        count += 1
        child = one_child(s)
        s += first + second + outside + child["tip"]
        text = """
  indented
        """
        return text, rest, more, count

    body.mark = 1
    program = fc.function(body)
    changed = program._body
    assert changed is not body
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__defaults__",
                 "__kwdefaults__", "__annotations__", "mark"):  # fmt: skip
        assert getattr(changed, name) == getattr(body, name)
    assert changed.__code__.co_firstlineno == body.__code__.co_firstlineno
    lines = [sorted({line for *_, line in code.co_lines() if line}) for code in (changed.__code__,
             body.__code__)]  # fmt: skip
    assert lines[0] == lines[1]
    text, (_, rest, more, seen) = outcome(program, "A", 2, second="B", z=3)
    assert text.startswith("ABout")
    assert (rest, more, seen) == ((2,), {"z": 3}, 1)
    outside = "new"
    assert outcome(program)[0].startswith("abnew")
    assert count == 2


def test_locations_of_nodes_are_the_lines_of_the_source():
    def body(s):
        child = one_child(s)
        s += (
            "a"
            + child["tip"]
        )  # fmt: skip

    line = body.__code__.co_firstlineno + 2
    assert f"test_peephole.py:{line}  [0] fill" in fc.function(body).explain()


def test_async_bodies_nested_functions_and_region_bodies():
    @fc.function
    async def program(s):
        child = one_child(s)
        s += child["tip"]
        return await s.atext()

    text, value = outcome(program)
    assert text == value

    def nested(s):
        def helper(state):
            state += one_child(state)["tip"]

        helper(s)

    def region(s):
        def helper(state):
            state += one_child(state)["tip"]

        s.fork(2).map(helper)

    assert fc.function(nested)._body is nested
    assert fc.function(region)._body is not region
    agree(region)


def test_a_program_in_a_class_uses_its_class():
    class Holder:
        prefix = "p"

        @staticmethod
        @fc.function
        def program(s):
            child = one_child(s)
            s += Holder.prefix + child["tip"]

    assert outcome(Holder.program)[0].startswith("p tip")
    assert forces(Holder.program) == 0


def test_without_a_source_the_body_stays_as_it_is():
    scope: dict[str, object] = {"fc": fc, "one_child": one_child}
    source = 'def body(s):\n    s += one_child(s)["tip"]\n'
    exec(source, scope)
    assert fc.function(scope["body"])._body is scope["body"]
    program = fc.function(lambda s: s.__iadd__(one_child(s)["tip"]))
    assert outcome(program)[0] == " tip "
    assert fc.function(len)._body is len


def test_a_source_that_has_changed_since_is_not_believed(tmp_path):
    path = tmp_path / "program.py"
    path.write_text('def body(s, child):\n    s += child["a"] + "x"\n')
    body = runpy.run_path(str(path))["body"]
    assert fc.function(body)._body is not body
    path.write_text('def body(s, child):\n    s += child["a"] + "y"\n')
    linecache.checkcache()
    assert fc.function(body)._body is body


def test_it_can_be_turned_off():
    @fc.function(peephole=False)
    def program(s):
        s += one_child(s)["tip"]

    assert forces(program) == 1


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
@pytest.mark.parametrize(
    "statement",
    ['s += x["a"]', 'user(x["a"])', 's += f"{x[0]}"', 'join(",", [y["a"] for y in x])'],
)
def test_what_is_compiled_anew_is_the_same_but_for_the_leaves(tmp_path, statement, future):
    source = f"""
{future}
def outer(free):
    def body(s, x: int, user=len, join=len, *, key=1) -> str:
        for each in range(3):
            {statement}
        return [free for _ in x if (y := key)]
    return body
"""
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(source))
    body = runpy.run_path(str(path))["outer"](1)
    changed = _peephole.rewritten(body)
    assert changed is not body
    assert set(changed.__code__.co_freevars) == {*body.__code__.co_freevars, "__furcate_leaves__"}


def test_a_leaf_is_what_it_stands_for_where_it_cannot_be_appended():
    def body(s):
        child = one_child(s)
        found = leaf(child, "tip", s)
        assert isinstance(found, fc.Ref)
        assert found.strip(None) == "tip"
        assert leaf(child, "tip", "no state") == " tip "
        assert leaf({"tip": 1}, "tip", s) == 1
        s += found

    with fc.Mock(reply) as backend:
        state = fc.function(body).run(backend=backend)
        assert state.text() == " tip "


def test_how_a_call_is_compiled_depends_on_what_the_module_imports(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(
        "from collections import OrderedDict\n"
        "def body(s, x):\n"
        "    OrderedDict.fromkeys('ab')\n"
        "    s += x['a']\n"
    )
    body = runpy.run_path(str(path))["body"]
    assert _peephole.rewritten(body) is not body


# Every example ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_records_the_same_with_and_without(path, monkeypatch, echo):
    fc.set_default_backend(echo)
    try:
        lazy = run_example(path)
        monkeypatch.setattr(_function, "rewritten", lambda body: body)
        assert run_example(path) == lazy
    finally:
        fc.set_default_backend(None)


def run_example(path):
    """What its main returns, or raises: the mock's answers fit no type."""
    try:
        return runpy.run_path(str(path))["main"]()
    except Exception as error:
        return type(error).__name__
