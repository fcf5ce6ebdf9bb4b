"""What goes wrong is an error with its source line, and nothing hangs."""

import contextlib
import threading
import traceback

import pytest

import furcate as fc
from furcate.errors import EngineLost
from furcate.protocol.graph import Gen
from furcate.protocol.message import Failed, Graph, Value

pytestmark = pytest.mark.timeout(10)


class Bomb(Exception):
    pass


def fails_on(word: str):
    """A reply that raises where the text holds the word."""

    def reply(call):
        if word in call.text:
            raise Bomb(f"saw {word}")
        return "fine"

    return reply


def test_a_failed_gen_raises_with_node_line_cause_and_state():
    @fc.function
    def program(s):
        s += "bad "
        s += fc.gen("answer")

    line = program._body.__code__.co_firstlineno + 3
    with fc.Mock(fails_on("bad")) as backend, pytest.raises(fc.ProgramError) as raised:
        program.run(backend=backend)
    error = raised.value
    assert error.node == "gen 'answer'"
    assert error.location == f"{__file__}:{line}"
    assert isinstance(error.cause, fc.BackendError)
    assert "Bomb: saw bad" in str(error)
    assert f"{__file__}:{line}" in str(error)
    assert error.state.text_iter
    assert "cause" in "".join(traceback.format_exception(error))


def test_forcing_a_failed_value_raises_into_the_body_and_can_be_caught():
    @fc.function
    def program(s):
        child = s.fork(1)[0]
        child += "bad " + fc.gen("a")
        with contextlib.suppress(fc.ProgramError):
            child["a"]
        s += fc.gen("b")
        return s["b"]

    with fc.Mock(fails_on("bad")) as backend:
        assert program.run(backend=backend).ret_value == "fine"


def test_a_body_that_does_not_catch_it_ends_with_the_same_error():
    @fc.function
    def program(s):
        s += "bad " + fc.gen("a")
        s["a"]

    with fc.Mock(fails_on("bad")) as backend, pytest.raises(fc.ProgramError) as raised:
        program.run(backend=backend)
    assert raised.value.node == "gen 'a'"
    assert raised.value.state is not None


def test_what_a_failed_node_keeps_from_coming_names_that_node_and_its_line(by_hand):
    def refuse(_, request):
        if not isinstance(request, Graph):
            return []
        first, second = (i for i, node in enumerate(request.nodes) if isinstance(node, Gen))
        return [
            Failed(0, first, 0, 0, "usage", "no such thing"),
            Failed(0, second, 0, 1, "upstream", f"needs node {first}: usage: no such thing"),
        ]

    @fc.function
    def program(s):
        s += "hello " + fc.gen("a")
        s += fc.gen("b")
        s["b"]

    line = program._body.__code__.co_firstlineno + 2
    backend, _ = by_hand(refuse)
    with pytest.raises(fc.ProgramError) as raised:
        program.run(backend=backend)
    assert str(raised.value.cause) == (
        f"it needs gen 'a' at {__file__}:{line}, which failed: no such thing"
    )


def test_appending_text_and_sync_on_a_failed_state_raise():
    @fc.function
    def program(s):
        s += "bad " + fc.gen("a")
        with pytest.raises(fc.ProgramError):
            s["a"]
        for use in (lambda: s.user("x"), s.text, s.sync, lambda: s["a"], lambda: s.fork(2)):
            with pytest.raises(fc.ProgramError, match="gen 'a'"):
                use()
        return "reached"

    with fc.Mock(fails_on("bad")) as backend:
        assert program.run(backend=backend).ret_value == "reached"


def test_what_depends_on_a_failed_node_fails_as_upstream():
    @fc.function
    def program(s):
        child = s.fork(1)[0]
        child += "bad " + fc.gen("a")
        s += "got " + child.ref("a") + fc.gen("b")
        child.error()

    with fc.Mock(fails_on("bad")) as backend, pytest.raises(fc.ProgramError) as raised:
        program.run(backend=backend)
    assert isinstance(raised.value.cause, fc.UpstreamFailed)


def test_the_middle_of_three_children_fails_and_the_parent_goes_on():
    @fc.function
    def program(s):
        group = s.fork(3)
        group += lambda index: ("bad " if index == 1 else "good ") + fc.gen("x")
        group.join()
        s += fc.gen("own")
        return s["x"], [type(error) for error in group.errors], s["own"]

    with fc.Mock(fails_on("bad")) as backend:
        state = program.run(backend=backend)
    values, errors, own = state.ret_value
    assert values == ["fine", None, "fine"]
    assert errors == [type(None), fc.ProgramError, type(None)]
    assert own == "fine"
    assert state.ok


def test_a_failed_branch_that_nobody_joined_or_read_fails_the_run():
    @fc.function
    def program(s):
        group = s.fork(2)
        group += lambda index: ("bad " if index == 1 else "good ") + fc.gen("x")
        s += fc.gen("own")

    with fc.Mock(fails_on("bad")) as backend, pytest.raises(fc.ProgramError, match="gen 'x'"):
        program.run(backend=backend)


def test_a_failed_child_that_is_appended_fails_the_parent():
    @fc.function
    def program(s):
        group = s.fork(2)
        group += lambda index: ("bad " if index == 1 else "good ") + fc.gen("x")
        group.join("append")

    with fc.Mock(fails_on("bad")) as backend, pytest.raises(fc.ProgramError, match="Bomb"):
        program.run(backend=backend)


@pytest.mark.parametrize("kind", [Bomb, KeyboardInterrupt, SystemExit])
def test_an_exception_in_the_body_propagates_as_itself_and_cancels_the_program(kind):
    @fc.function
    def program(s):
        s += fc.gen("a")
        raise kind("mine")

    with fc.Mock("x") as backend:
        with pytest.raises(kind, match="mine"):
            program.run(backend=backend)
        kinds = [type(request).__name__ for request in backend._channel.requests]
    assert "Cancel" in kinds


def losing(error):
    """Loses the connection when the first program arrives."""

    def react(channel, request):
        if isinstance(request, Graph):
            channel.lose(error)
        return []

    return react


def test_a_lost_engine_ends_every_open_run_and_is_retryable(by_hand):
    backend, channel = by_hand()

    @fc.function
    def straight(s):
        s += fc.gen("a")

    @fc.function
    def forces(s):
        s += fc.gen("a")
        s["a"]

    errors = []

    def run(program):
        try:
            program.run(backend=backend)
        except fc.ProgramError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(p,)) for p in (straight, forces, straight)]
    for thread in threads:
        thread.start()
    channel.wait_for(lambda c: len(c.sent) >= 3)
    channel.lose(EngineLost("the engine has gone"))
    for thread in threads:
        thread.join(5)
    assert len(errors) == 3
    assert all(isinstance(error.cause, EngineLost) and error.cause.retryable for error in errors)
    with pytest.raises(fc.ProgramError) as raised:
        straight.run(backend=backend)
    assert isinstance(raised.value.cause, EngineLost)


def test_a_loss_inside_send_is_no_deadlock(by_hand):
    backend, _ = by_hand(losing(EngineLost("gone")))

    @fc.function
    def program(s):
        s += fc.gen("a")
        s["a"]

    with pytest.raises(fc.ProgramError) as raised:
        program.run(backend=backend)
    assert isinstance(raised.value.cause, EngineLost)


def test_a_send_that_fails_loses_the_connection(by_hand):
    backend, channel = by_hand()
    channel.closed = True
    with pytest.raises(fc.ProgramError) as raised:
        fc.function(lambda s: s.user(fc.gen("a")) and None).run(backend=backend)
    assert isinstance(raised.value.cause, EngineLost)


def test_after_a_loss_appends_text_and_sync_raise(by_hand):
    backend, _ = by_hand(losing(EngineLost("gone")))

    @fc.function
    def program(s):
        s += fc.gen("a")
        for use in (lambda: s["a"], s.text, s.sync, lambda: s.user("x"), lambda: s.fork(2)):
            with pytest.raises(fc.ProgramError, match="gone"):
                use()

    with pytest.raises(fc.ProgramError, match="gone"):
        program.run(backend=backend)


def test_closing_the_backend_ends_what_runs(by_hand):
    backend, channel = by_hand()
    errors = []

    def run():
        try:
            fc.function(lambda s: s.user(fc.gen("a")) and None).run(backend=backend)
        except fc.ProgramError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    channel.wait_for(lambda c: len(c.sent) >= 1)
    backend.close()
    backend.close()
    thread.join(5)
    assert isinstance(errors[0].cause, fc.BackendError)
    with pytest.raises(fc.UsageError, match="closed"):
        fc.function(lambda s: None).run(backend=backend)


@pytest.mark.parametrize("how", ["closed", "lost"])
def test_text_that_is_asked_for_after_the_backend_has_gone_raises(by_hand, how):
    @fc.function
    def program(s):
        s += "hello " + fc.gen("a")

    def answer(_, request):
        if not isinstance(request, Graph):
            return []
        return [*by_hand.values(0, request.nodes), by_hand.finished(0)]

    backend, channel = by_hand(answer)
    state = program.run(backend=backend)
    if how == "closed":
        backend.close()
    else:
        channel.lose(EngineLost("the engine has gone"))
    with pytest.raises(fc.ProgramError) as raised:
        state.text()
    assert isinstance(raised.value.cause, fc.BackendError)
    assert (state["a"], state.ok) == ("x", True)
    assert repr(state) == "ProgramState(hello x)"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("cancelled", fc.Cancelled),
        ("deadline", fc.DeadlineExceeded),
        ("capacity", fc.CapacityError),
    ],
)
def test_a_program_that_the_other_side_ends_early_raises_why(by_hand, code, kind):
    def react(channel, request):
        return [by_hand.finished(request.program, code)] if isinstance(request, Graph) else []

    backend, _ = by_hand(react)
    with pytest.raises(fc.ProgramError) as raised:
        fc.function(lambda s: s.user(fc.gen("a")) and None).run(backend=backend)
    assert isinstance(raised.value.cause, kind)


def test_a_program_that_ends_without_one_of_its_values_does_not_hang(by_hand):
    def react(channel, request):
        return [by_hand.finished(request.program)] if isinstance(request, Graph) else []

    backend, _ = by_hand(react)
    with pytest.raises(fc.ProgramError) as raised:
        fc.function(lambda s: s.user(fc.gen("a")) and None).run(backend=backend)
    assert isinstance(raised.value.cause, fc.WireError)


def test_events_of_unknown_programs_and_values_are_ignored(by_hand):
    def react(channel, request):
        if not isinstance(request, Graph):
            return []
        p = request.program
        stray = [Value(p + 99, 0, "x"), Value(p, 55, "x"), Failed(p, 77, None, None, "x", "y")]
        return [*stray[:2], *by_hand.values(p, request.nodes), by_hand.finished(p)]

    backend, _ = by_hand(react)
    state = fc.function(lambda s: s.user(fc.gen("a")) and None).run(backend=backend)
    assert state["a"] == "x"


def test_a_failed_constraint_comes_back_as_constraint_error_with_its_pointer(by_hand):
    def react(channel, request):
        if not isinstance(request, Graph):
            return []
        p = request.program
        failed = Failed(p, 0, 0, 0, "constraint", "not is not supported", "/not")
        return [failed, by_hand.finished(p)]

    @fc.function
    def program(s):
        s += fc.gen("a", json_schema={"not": {}})

    backend, _ = by_hand(react)
    with pytest.raises(fc.ProgramError) as raised:
        program.run(backend=backend)
    assert isinstance(raised.value.cause, fc.ConstraintError)
    assert raised.value.cause.pointer == "/not"
    assert raised.value.node == "gen 'a'"


def test_an_error_class_of_the_user_does_not_take_the_place_of_one_from_the_wire(by_hand):
    class Mine(fc.UsageError):
        pass

    def react(channel, request):
        if not isinstance(request, Graph):
            return []
        p = request.program
        return [Failed(p, 0, 0, 0, "usage", "no"), by_hand.finished(p)]

    backend, _ = by_hand(react)
    with pytest.raises(fc.ProgramError) as raised:
        fc.function(lambda s: s.user(fc.gen("a")) and None).run(backend=backend)
    assert type(raised.value.cause) is fc.UsageError
    assert Mine.code == "usage"


def test_a_node_that_met_the_end_of_the_program_is_named(by_hand):
    def react(channel, request):
        if not isinstance(request, Graph):
            return []
        p = request.program
        return [Failed(p, 1, 0, 0, "deadline", "too late"), by_hand.finished(p, "deadline")]

    backend, _ = by_hand(react)
    with pytest.raises(fc.ProgramError, match="gen 'a'"):
        fc.function(lambda s: s.user(fc.gen("a")) and None).run(backend=backend)


def test_a_failed_let_is_an_error_where_it_is_read():
    @fc.function
    def program(s):
        s += fc.gen("a")
        return s.ref("a")["missing"]

    with fc.Mock("{}") as backend, pytest.raises(fc.ProgramError, match="missing"):
        program.run(backend=backend)


def test_another_thread_that_runs_a_program_meanwhile_is_unaffected():
    results = {}

    @fc.function
    def program(s, word):
        for turn in range(20):
            s += word + fc.gen(f"g{turn}")
            assert s[f"g{turn}"] == word
        return s.text()

    with fc.Mock(lambda call: call.text[-1]) as backend:

        def work(word):
            results[word] = program.run(word, backend=backend).ret_value

        threads = [threading.Thread(target=work, args=(word,)) for word in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == {word: word * 40 for word in "abcd"}


def test_no_backend_is_a_usage_error_with_the_remedy():
    with pytest.raises(fc.UsageError, match="set_default_backend"):
        fc.function(lambda s: None).run()
    with pytest.raises(fc.UsageError, match="Mock"):
        fc.function(lambda s: None).run(backend="mock")


def test_a_timeout_is_enforced_even_if_the_other_side_is_silent(by_hand, monkeypatch):
    monkeypatch.setattr("furcate.lang._results._GRACE_S", 0.0)
    backend, _ = by_hand()
    with pytest.raises(fc.ProgramError) as raised:
        fc.function(lambda s: s.user(fc.gen("a")) and None).run(backend=backend, timeout=0.05)
    assert isinstance(raised.value.cause, fc.DeadlineExceeded)
