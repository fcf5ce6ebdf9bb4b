"""What known frontends for programs of LLM calls get wrong, one test a row of the list.

Each is under a watchdog: where another frontend would hang, the test must end by itself.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.e2e.demo import Server
from tests.fakes.in_process import context_session, model_session

import furcate as fc
from furcate.lang.backend.mock import MockChannel
from furcate.protocol.codec import encode
from furcate.protocol.message import Graph
from furcate.runtime.testing import ScriptedModel
from furcate.runtime.tokenize.byte_level import ByteTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(30)

SOON_S = 2.0  # how long an error of the backend may take to arrive
STOP = ["\n", "!"]
CONTEXT = "Rules of the house, which every request shares. " * 190  # 9 KB


@pytest.fixture(scope="module")
def engine() -> Iterator[fc.Session]:
    with context_session() as backend:
        yield backend


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with Server("test:context", "--threads", "1") as server:
        yield server.address


@pytest.fixture
def server(address: str) -> Iterator[fc.Session]:
    with fc.connect(address) as backend:
        yield backend


@pytest.fixture(params=["mock", "engine", "server"])
def backend(request: pytest.FixtureRequest) -> Iterator[fc.Session]:
    """Each way to run programs; the server's marks make its tests slow."""
    if request.param == "mock":
        with fc.Mock(lambda call: f"said {len(call.text)}") as mock:
            yield mock
    else:
        yield request.getfixturevalue(request.param)


class Bomb(Exception):
    pass


def bad(call: fc.MockCall) -> str:
    if "bad" in call.text:
        raise Bomb("refused")
    return "fine"


def raises_program_error(use: object) -> fc.ProgramError:
    with pytest.raises(fc.ProgramError) as raised:
        use()  # type: ignore[operator]
    return raised.value


# The backend fails in a gen ----------------------------------------------------------------------


def test_a_gen_that_fails_raises_with_its_line_and_so_does_all_that_follows() -> None:
    @fc.function
    def program(s: fc.ProgramState) -> list[fc.ProgramError]:
        s += "bad " + fc.gen("a")
        errors = [raises_program_error(lambda: s["a"])]
        errors += map(raises_program_error, [s.text, s.sync, lambda: s.user("more")])
        return errors

    line = program._body.__code__.co_firstlineno + 2
    with fc.Mock(bad) as mock:
        state = program.run(backend=mock)
    assert [error.location for error in state.ret_value] == [f"{__file__}:{line}"] * 4
    assert all("Bomb: refused" in str(error) for error in state.ret_value)


@pytest.mark.slow
def test_a_server_that_is_killed_in_a_gen_raises_engine_lost_soon() -> None:
    @fc.function
    def program(s: fc.ProgramState) -> None:
        s += "begin " + fc.gen("a", max_tokens=4000, ignore_eos=True)

    with (
        Server("test:endless", "--threads", "1") as served,
        fc.connect(served.address) as backend,
    ):
        state = program.run(backend=backend, stream=True)
        next(iter(state.text_iter("a")))
        served.process.send_signal(signal.SIGKILL)
        killed_at = time.monotonic()
        errors = [raises_program_error(use) for use in (state.sync, lambda: state["a"], state.text)]
        assert time.monotonic() - killed_at < SOON_S
        assert all(isinstance(error.cause, fc.EngineLost) for error in errors)
        assert errors[0].cause.retryable
        with pytest.raises(fc.ProgramError):
            program.run(backend=backend)


def test_the_middle_one_of_three_children_fails_and_leaves_a_hole_with_its_error() -> None:
    @fc.function
    def program(s: fc.ProgramState) -> tuple[object, ...]:
        group = s.fork(3)
        group += lambda index: ("bad " if index == 1 else "good ") + fc.gen("x")
        group.join()
        s += "on " + fc.gen("own")
        return s["x"], group.errors, s["own"]

    with fc.Mock(bad) as mock:
        values, errors, own = program.run(backend=mock).ret_value
    assert (values, own) == (["fine", None, "fine"], "fine")
    assert [type(error) for error in errors] == [type(None), fc.ProgramError, type(None)]


# Arguments and bodies ----------------------------------------------------------------------------


def test_a_module_level_list_of_stops_stays_as_it_is() -> None:
    @fc.function
    def program(s: fc.ProgramState) -> None:
        s += fc.gen("a", stop=STOP) + fc.gen("b", stop=STOP, dtype=int)

    with fc.Mock("1! ") as mock:
        program.run(backend=mock, stop=STOP)
        program.run_batch([{}] * 3, backend=mock, stop=STOP)
    assert STOP == ["\n", "!"]


@pytest.mark.parametrize("num_threads", [1, 8])
def test_a_body_with_a_side_effect_runs_exactly_once_for_each_item(
    backend: fc.Session, num_threads: int
) -> None:
    table = {f"key {i}": f"entry {i} " for i in range(20)}
    looked_up: Counter[str] = Counter()

    @fc.function
    def program(s: fc.ProgramState, key: str) -> str:
        looked_up[key] += 1
        s += table[key] + fc.gen("a", max_tokens=4)
        return s["a"]

    items = [{"key": key} for key in table]
    states = program.run_batch(items, backend=backend, num_threads=num_threads)
    assert looked_up == dict.fromkeys(table, 1)
    assert [state.text() for state in states] == [
        table[key] + state.ret_value for key, state in zip(table, states, strict=True)
    ]


def test_children_of_a_fast_branch_do_not_wait_for_a_slow_one(backend: fc.Session) -> None:
    children_are_done = threading.Event()

    def slow() -> str:
        assert children_are_done.wait(20)
        return "late "

    @fc.function
    def program(s: fc.ProgramState) -> tuple[list[str], str]:
        s += "begin "
        late, early = s.fork(2)
        late += late.call(slow) + fc.gen("x", max_tokens=3)
        early += "early " + fc.gen("x", max_tokens=3)
        children = early.fork(2)
        children += fc.gen("y", max_tokens=3)
        said = [child["y"] for child in children]
        children_are_done.set()
        return said, late.text()

    said, text = program.run(backend=backend).ret_value
    assert len(said) == 2
    assert text.startswith("begin late ")


def test_programs_in_other_threads_do_not_disturb_each_other(backend: fc.Session) -> None:
    @fc.function
    def program(s: fc.ProgramState, name: str) -> str:
        for step in range(3):
            s += f"{name} {step} " + fc.gen(f"a{step}", max_tokens=5)
            assert f"a{step}" in s
            if name == "broken" and step == 1:
                raise Bomb(s[f"a{step}"])
        return s["a2"] + s.text()

    def run(name: str) -> object:
        try:
            return program.run(name, backend=backend, seed=3).ret_value
        except Bomb:
            return "Bomb"

    names = [f"program {i}" for i in range(5)] + ["broken"] * 2
    alone = {name: run(name) for name in names}
    results: dict[int, object] = {}
    threads = [
        threading.Thread(target=lambda i=i, n=n: results.setdefault(i, run(n)))  # type: ignore[misc]
        for i, n in enumerate(names)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[i] for i in range(len(names))] == [alone[name] for name in names]


@pytest.mark.parametrize("said", ["yes", "no"])
def test_an_if_takes_the_right_branch(said: str) -> None:
    @fc.function
    def program(s: fc.ProgramState) -> str:
        s += "Is it? " + fc.gen("a")
        if s["a"] == "yes":
            return "then"
        return "then too" if s.ref("a") == "yes" else "else"

    with fc.Mock(said) as mock:
        assert program.run(backend=mock).ret_value == ("then" if said == "yes" else "else")


def test_an_exception_inside_a_role_closes_the_role_and_propagates() -> None:
    @fc.function
    def program(s: fc.ProgramState) -> None:
        with contextlib.suppress(Bomb), s.user():
            s += "half"
            raise Bomb
        with s.assistant():
            s += fc.gen("a")

    with fc.Mock("whole") as mock:
        messages = program.run(backend=mock).messages()
    assert messages == [
        {"role": "user", "content": "half"},
        {"role": "assistant", "content": "whole"},
    ]

    @fc.function
    def raising(s: fc.ProgramState) -> None:
        with s.user():
            raise Bomb("mine")

    with fc.Mock("whole") as mock, pytest.raises(Bomb, match="mine"):
        raising.run(backend=mock)


def test_two_hundred_children_need_no_thread_more(backend: fc.Session) -> None:
    @fc.function
    def program(s: fc.ProgramState, width: int) -> tuple[int, int]:
        s += "begin "
        group = s.fork(width)
        group += lambda index: f"{index} " + fc.gen("x", max_tokens=1)
        group.join()
        return len(s["x"]), threading.active_count()

    _, num_threads = program.run(1, backend=backend).ret_value
    num_values, num_threads_then = program.run(200, backend=backend).ret_value
    assert num_values == 200
    assert num_threads_then <= num_threads


def test_a_model_without_a_chat_template_says_so_and_what_to_do() -> None:
    codec = ByteTokenizer(chat_template=None, name="raw-model")
    with model_session(ScriptedModel(lambda ids: 258), codec) as backend:
        program = fc.function(lambda s: s.user("hello " + fc.gen("a")) and None)
        with pytest.raises(fc.ProgramError) as raised:
            program.run(backend=backend)
        assert isinstance(raised.value.cause, fc.TemplateError)
        message = str(raised.value)
        assert "no chat template" in message
        assert "write the prompt as text without roles" in message
        assert fc.function(lambda s: s.__iadd__("a" + fc.gen("a")) and None).run(backend=backend).ok


# What is seen of forks ---------------------------------------------------------------------------


def test_a_stream_shows_what_children_say_and_who_says_it(backend: fc.Session) -> None:
    @fc.function
    def program(s: fc.ProgramState) -> None:
        s += "begin " + fc.gen("own", max_tokens=4)
        group = s.fork(2)
        group += lambda index: f"child {index} " + fc.gen("x", max_tokens=4)
        group.join()

    state = program.run(backend=backend, stream=True, seed=5)
    said: dict[tuple[int, str | None], str] = {}
    for event in state.events():
        key = (event.branch, event.var)
        said[key] = said.get(key, "") + event.delta
    assert said == {(0, "own"): state["own"], (1, "x"): state["x"][0], (2, "x"): state["x"][1]}


def test_a_variable_from_before_the_fork_that_children_set_is_gathered() -> None:
    @fc.function
    def program(s: fc.ProgramState) -> object:
        s += fc.gen("x")
        s["y"] = "before"
        group = s.fork(2)
        for index, child in enumerate(group):
            child += fc.gen("x")
            child["y"] = f"set in {index}"
        group.join()
        return s["x"], s["y"]

    with fc.Mock(["first", "second", "third"]) as mock:
        gathered = program.run(backend=mock).ret_value
    assert gathered == (["second", "third"], ["set in 0", "set in 1"])


def test_text_and_messages_agree_on_white_space() -> None:
    @fc.function
    def program(s: fc.ProgramState) -> None:
        s += fc.user("  indented\n")
        s += fc.assistant("\n" + fc.gen("a"))

    with fc.Mock(" said  ") as mock:
        state = program.run(backend=mock)
        contents = [message["content"] for message in state.messages()]
        assert contents == ["  indented\n", "\n said  "]
        assert all(content in state.text() for content in contents)


# Budgets -----------------------------------------------------------------------------------------


def test_a_ten_step_agent_sends_its_context_once() -> None:
    @fc.function
    def agent(s: fc.ProgramState) -> None:
        s += fc.system(CONTEXT) + fc.user("What is next?")
        for step in range(10):
            with s.assistant():
                s += fc.gen(f"thought {step}", max_tokens=3, stop="\n") + "\n"
                s += fc.gen(f"action {step}", max_tokens=3)
            action = s[f"action {step}"]
            s += fc.user(f"Result of {action}: fine.")

    with fc.Mock("R") as mock:
        agent.run(backend=mock)
        assert mock.num_bytes_sent is not None
        assert mock.num_bytes_sent <= 2 * len(CONTEXT)


def test_a_node_takes_sixty_bytes_at_most() -> None:
    @fc.function
    def chat(s: fc.ProgramState, question: str) -> None:
        s += fc.system("Be brief.") + fc.user(question)
        s += fc.assistant(fc.gen("answer", max_tokens=64, stop="\n", temperature=0.5))
        group = s.fork(3)
        group += fc.user("Rate it.") + fc.assistant(fc.select("rating", ["good", "bad"]))
        s += fc.user(group[0].ref("rating"))

    with fc.Mock("R") as mock:
        chat.run("Why?", backend=mock)
        channel = mock._channel
        assert isinstance(channel, MockChannel)
        (delta,) = [r for r in channel.requests if isinstance(r, Graph)]
        assert len(encode([delta])) <= 60 * len(delta.nodes)


def test_a_batch_behind_a_long_prefix_is_one_or_two_small_messages() -> None:
    @fc.function
    def answers(s: fc.ProgramState, question: str) -> None:
        s += fc.system("Answer in one word.")
        s += fc.user(CONTEXT + question)
        s += fc.assistant(fc.gen("answer", max_tokens=32))

    with fc.Mock("R") as mock:
        answers.run_batch([{"question": f"Case {i}?"} for i in range(100)], backend=mock)
        assert mock.num_messages <= 2
        assert mock.num_bytes_sent is not None
        assert mock.num_bytes_sent <= 25_000
