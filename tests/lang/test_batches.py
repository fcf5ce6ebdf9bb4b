import threading

import pytest

import furcate as fc
from furcate.protocol.graph import Text
from furcate.protocol.message import Batch, Graph, Release, Segments

pytestmark = pytest.mark.timeout(20)

PREFIX = "Rules of the house, which every request shares. " * 190  # 9 KB


@fc.function
def answers(s, question):
    with s.user():
        s += PREFIX
        s += question
    s += fc.assistant(fc.gen("answer", max_tokens=32))


@fc.function
def forces(s, word, log):
    log.append(word)
    s += word + fc.gen("a")
    s["out"] = s["a"] + "!"
    s += s["out"] + fc.gen("b")
    return s["b"]


def requests_of(backend):
    """Without Release, which comes when states are dropped and not because of the run."""
    return [r for r in backend._channel.requests if not isinstance(r, Release)]


def test_states_come_in_the_order_of_the_items(echo):
    states = answers.run_batch([{"question": str(i)} for i in range(10)], backend=echo)
    alone = [answers.run(str(i), backend=echo)["answer"] for i in range(10)]
    assert [state["answer"] for state in states] == alone
    assert answers.run_batch([("0",), ["1"]], backend=echo)[1]["answer"] == alone[1]


def test_a_batch_behind_a_9_kb_prefix_keeps_its_budget_of_messages_and_bytes():
    with fc.Mock("R") as backend:
        items = [{"question": f"Case {i}?"} for i in range(100)]
        states = answers.run_batch(items, backend=backend)
        assert len(PREFIX) > 9000
        assert backend.num_messages <= 2
        assert backend.num_bytes_sent <= 25_000
        assert all(state["answer"] == "R" for state in states)
        assert states[7].text().count(PREFIX) == 1


def test_a_prefix_that_is_part_of_a_longer_string_is_shared_too():
    @fc.function
    def program(s, question):
        s += fc.user(PREFIX + question)
        s += fc.assistant(fc.gen("answer"))

    with fc.Mock("R") as backend:
        states = program.run_batch([(f"Case {i}?",) for i in range(100)], backend=backend)
        assert backend.num_bytes_sent <= 25_000
        assert states[7].messages()[0]["content"] == PREFIX + "Case 7?"
        assert PREFIX + "Case 7?" in states[7].text()


def test_a_ten_step_agent_on_a_9_kb_context_sends_at_most_twice_its_context():
    @fc.function
    def agent(s):
        s += fc.user(PREFIX)
        for step in range(10):
            s += fc.assistant(fc.gen(f"act_{step}", max_tokens=40, stop="\n"))
            s += fc.user("Observation: " + s[f"act_{step}"].upper() * 10)

    with fc.Mock("search the house") as backend:
        agent.run(backend=backend)
        assert backend.num_bytes_sent <= 2 * len(PREFIX)
        assert backend.num_messages == 11


@pytest.mark.slow
def test_a_batch_of_large_texts_is_cut_into_several_messages():
    @fc.function
    def program(s, index):
        s += f"{index}" + " " * 900_000 + fc.gen("a")

    with fc.Mock("R") as backend:
        states = program.run_batch([(i,) for i in range(10, 30)], backend=backend)
        assert 2 <= backend.num_messages <= 4
        assert all(state["a"] == "R" for state in states)


def test_a_text_that_occurs_once_stays_inline():
    with fc.Mock("R") as backend:
        answers.run("alone", backend=backend)
        assert not [r for r in requests_of(backend) if isinstance(r, Segments)]
        answers.run("again", backend=backend)
        answers.run("and again", backend=backend)
        tables = [r for r in requests_of(backend) if isinstance(r, Segments)]
        assert [r.texts for r in tables] == [(PREFIX,)]
        graphs = [r for r in requests_of(backend) if isinstance(r, Graph)]
        assert 0 in [node.text for node in graphs[-1].nodes if isinstance(node, Text)]


@pytest.mark.slow
def test_a_long_batch_is_sent_in_chunks_and_records_ahead_only_so_far():
    recorded = []

    @fc.function
    def program(s, index):
        recorded.append(index)
        s += fc.gen("a")

    with fc.Mock("R") as backend:
        results = program.run_batch(
            [(i,) for i in range(3000)], backend=backend, generator_style=True
        )
        first = next(results)
        assert first["a"] == "R"
        assert 1 <= len(recorded) <= 1024
        states = list(results)  # kept: dropping them would send Release in between
        assert len(states) == 2999
        assert recorded == list(range(3000))
        assert len(requests_of(backend)) == backend.num_messages == 12
        assert all(isinstance(r, Batch) for r in requests_of(backend))
        assert backend.num_messages <= 3000 / 256 + 2


@pytest.mark.parametrize("num_threads", [1, 2, 8, "auto"])
def test_each_body_runs_exactly_once_when_programs_force(echo, num_threads):
    log = []
    items = [{"word": f"w{i}", "log": log} for i in range(40)]
    states = forces.run_batch(items, backend=echo, num_threads=num_threads)
    assert sorted(log) == sorted(item["word"] for item in items)
    assert [s["out"] for s in states] == [
        forces.run(f"w{i}", [], backend=echo)["out"] for i in range(40)
    ]


def test_a_lookup_or_side_effect_in_the_body_happens_once_an_item():
    table = {f"k{i}": i for i in range(20)}
    seen = []

    @fc.function
    def program(s, key):
        seen.append(table[key])
        s += fc.gen("a")

    with fc.Mock("R") as backend:
        program.run_batch([{"key": key} for key in table], backend=backend)
    assert seen == list(range(20))


@pytest.mark.parametrize("num_threads", [1, 3])
def test_programs_that_force_run_side_by_side_within_the_bound(by_hand, num_threads):
    """Answers only when as many programs wait as may wait; a smaller pool would hang."""
    waiting, most = [], []

    def react(channel, request):
        if not isinstance(request, Graph):
            return []
        if request.done:
            return [by_hand.finished(request.program)]
        waiting.append(request)
        most.append(len(waiting))
        if len(waiting) < num_threads:
            return []
        events = [e for r in waiting for e in by_hand.values(r.program, r.nodes)]
        waiting.clear()
        return events

    @fc.function
    def program(s):
        s += fc.gen("a")
        return s["a"]

    backend, _ = by_hand(react)
    states = program.run_batch([()] * (num_threads * 4), backend=backend, num_threads=num_threads)
    assert all(state.ret_value == "x" for state in states)
    assert max(most) == num_threads


def test_a_batch_inside_a_batch_with_one_thread_does_not_block():
    @fc.function
    def inner(s, word):
        s += word + fc.gen("a")
        return s["a"]

    @fc.function
    def outer(s, word):
        s += fc.gen("b")
        return [state.ret_value for state in inner.run_batch([(word,), (s["b"],)], num_threads=1)]

    with fc.Mock(lambda call: f"<{call.text}>") as backend:
        fc.set_default_backend(backend)
        states = outer.run_batch([("x",), ("y",)], num_threads=1)
        fc.set_default_backend(None)
    assert [state.ret_value for state in states] == [["<x>", "<<>>"], ["<y>", "<<>>"]]


@fc.function
def picky(s, word):
    if word == "body":
        raise LookupError("mine")
    s += word + fc.gen("a", type=int)


def bad_reply(call):
    if call.text == "node":
        raise LookupError("theirs")
    return "x" if call.text == "type" else "1"


WORDS = ["fine", "body", "node", "type", "fine"]


def test_on_error_return_gives_every_state_with_its_error():
    with fc.Mock(bad_reply) as backend:
        states = picky.run_batch([(w,) for w in WORDS], backend=backend, on_error="return")
        assert [state.ok for state in states] == [True, False, False, False, True]
        causes = [type(state.error().cause) for state in states if not state.ok]
        assert causes == [LookupError, fc.BackendError, fc.ValidationFailed]
        assert "test_batches.py" in str(states[2].error)
        assert not states[2].ok
        assert states[0]["a"] == 1


@pytest.mark.parametrize(("bad", "kind"), [("body", LookupError), ("node", fc.ProgramError)])
def test_on_error_raise_ends_the_batch_with_the_first_error(bad, kind):
    with fc.Mock(bad_reply) as backend, pytest.raises(kind):
        picky.run_batch([("fine",), (bad,), ("fine",)], backend=backend)


def test_a_lost_engine_is_an_error_of_each_item_with_on_error_return(by_hand):
    def react(channel, request):
        if isinstance(request, Graph):
            channel.lose(fc.EngineLost("gone"))
        return []

    backend, _ = by_hand(react)
    states = answers.run_batch([("a",), ("b",)], backend=backend, on_error="return")
    assert [type(state.error().cause) for state in states] == [fc.EngineLost] * 2


def test_a_generator_that_is_given_up_cancels_the_rest(by_hand):
    def react(channel, request):
        if isinstance(request, Graph) and request.program == 0:
            return [*by_hand.values(0, request.nodes), by_hand.finished(0)]
        return []

    backend, channel = by_hand(react)
    results = answers.run_batch([("a",), ("b",)], backend=backend, generator_style=True)
    assert next(results)["answer"] == "x"
    results.close()
    assert type(channel.sent[-1][0]).__name__ == "Cancel"


def test_an_interrupted_pool_lets_its_threads_end(by_hand):
    def react(channel, request):
        return []

    @fc.function
    def program(s, index):
        if index == 3:
            raise LookupError("mine")
        s += fc.gen("a")
        s["a"]

    backend, channel = by_hand(react)
    before = threading.active_count()
    failed = []

    def run():
        with pytest.raises(fc.ProgramError):
            program.run_batch([(i,) for i in range(6)], backend=backend, num_threads=4)
        failed.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    channel.wait_for(lambda c: len(c.sent) >= 4)
    channel.lose(fc.EngineLost("gone"))
    thread.join(10)
    assert failed == [True]
    assert threading.active_count() <= before + 1  # the session's own


def test_a_seed_makes_a_batch_reproducible_and_its_items_different():
    with fc.Mock(lambda call: str(call.seed)) as backend:
        states = answers.run_batch([("q",)] * 3, backend=backend, seed=5)
        assert [state["answer"] for state in states] == ["5", "6", "7"]
        assert [state.seed for state in states] == [5, 6, 7]


def test_a_batch_of_async_programs():
    @fc.function
    async def program(s, word):
        s += word + fc.gen("a")
        if word == "bad":
            raise LookupError("mine")
        return await s.aget("a")

    with fc.Mock(lambda call: f"<{call.text}>") as backend:
        states = program.run_batch([("x",), ("bad",), ("y",)], backend=backend, on_error="return")
        assert [s.ok for s in states] == [True, False, True]
        assert states[2].ret_value == "<y>"
        with pytest.raises(LookupError, match="mine"):
            program.run_batch([("x",), ("bad",)], backend=backend)


def test_a_progress_bar_changes_nothing(capsys):
    with fc.Mock("R") as backend:
        states = answers.run_batch([("a",), ("b",)], backend=backend, progress_bar=True)
    assert [state["answer"] for state in states] == ["R", "R"]
    assert "answers" in capsys.readouterr().err


def test_an_empty_batch_is_an_empty_list():
    with fc.Mock("R") as backend:
        assert answers.run_batch([], backend=backend) == []


@pytest.mark.parametrize(
    ("items", "keywords", "error"),
    [
        ("ab", {}, fc.UsageError),
        ({"question": "a"}, {}, fc.UsageError),
        (["a"], {}, fc.UsageError),
        ([3], {}, fc.UsageError),
        ([{"answer": "a"}], {}, TypeError),
        ([()], {}, TypeError),
        ([("a",)], {"on_error": "ignore"}, fc.UsageError),
        ([("a",)], {"num_threads": 0}, fc.UsageError),
        ([("a",)], {"temperature": -1}, fc.UsageError),
        ([("a",)], {"question": "b"}, TypeError),
        ([("a",)], {"stream": True}, TypeError),
    ],
)
def test_bad_arguments_raise_before_anything_runs(items, keywords, error):
    with fc.Mock("R") as backend:
        with pytest.raises(error):
            answers.run_batch(items, backend=backend, **keywords)
        assert backend.num_messages == 0
