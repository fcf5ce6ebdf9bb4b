import gc
import threading

import hypothesis.strategies as st
import pytest
from hypothesis import given

import furcate as fc
from furcate.lang._recording import Recorded, Taken
from furcate.lang.backend.tables import Tables
from furcate.protocol.graph import Drop, Text
from furcate.protocol.message import Graph, Release, Segments

pytestmark = pytest.mark.timeout(10)


@fc.function
def asks(s):
    s += fc.gen("a")


def answers(by_hand):
    def react(channel, request):
        if not isinstance(request, Graph):
            return []
        events = by_hand.values(request.program, request.nodes)
        return [*events, by_hand.finished(request.program)] if request.done else events

    return react


def test_a_state_that_is_dropped_is_released_on_the_other_side(by_hand):
    backend, channel = by_hand(answers(by_hand))
    state = asks.run(backend=backend)
    assert not channel.released.is_set()
    del state
    assert channel.released.wait(5)
    assert channel.sent[-1] == [Release((0,))]


def test_a_program_lives_as_long_as_anything_of_it_is_held(by_hand):
    backend, channel = by_hand(answers(by_hand))

    @fc.function
    def forks(s):
        group = s.fork(2)
        group += fc.gen("a")
        return group

    state = forks.run(backend=backend)
    ref = state.ret_value[1].ref("a")
    del state
    gc.collect()
    assert ref.get() == "x"
    assert not channel.released.is_set()
    del ref
    assert channel.released.wait(5)


def test_many_dropped_states_are_released_in_few_messages(by_hand):
    backend, channel = by_hand(answers(by_hand))
    states = asks.run_batch([()] * 100, backend=backend)
    before = len(channel.sent)
    del states

    def released(channel):
        lists = [r.programs for sent in channel.sent for r in sent if isinstance(r, Release)]
        return sorted(n for numbers in lists for n in numbers) == list(range(100))

    channel.wait_for(released)
    assert len(channel.sent) - before < 50


def test_a_running_program_that_is_dropped_is_released(by_hand):
    backend, channel = by_hand()
    state = asks.run(backend=backend, stream=True)
    channel.wait_for(lambda c: any(r.done for sent in c.sent for r in sent))
    for thread in threading.enumerate():
        if thread.name == "furcate-program":
            thread.join(5)
    del state
    assert channel.released.wait(5)


def test_a_dropped_branch_is_told_to_the_runtime(by_hand):
    backend, channel = by_hand(answers(by_hand))

    @fc.function
    def drops(s):
        group = s.fork(2)
        group += fc.gen("a")
        group.join()
        del group
        s["a"]
        s += fc.gen("b")

    state = drops.run(backend=backend)
    assert sorted(n.branch for n in channel.nodes if isinstance(n, Drop)) == [1, 2]
    assert state["a"] == ["x", "x"]


def test_deltas_count_up_and_only_the_first_carries_the_options(by_hand):
    backend, channel = by_hand(answers(by_hand))

    @fc.function
    def forces(s):
        s += fc.gen("a")
        s["a"]
        s += fc.gen("b")
        s["b"]

    forces.run(backend=backend, seed=3, timeout=60)
    graphs = [r for sent in channel.sent for r in sent if isinstance(r, Graph)]
    assert [(g.epoch, g.done) for g in graphs] == [(0, False), (1, False), (2, True)]
    assert (graphs[0].options.seed, graphs[0].options.timeout_s) == (3, 60.0)
    assert graphs[1].options is graphs[2].options is None


def test_text_after_the_end_is_a_further_delta(by_hand):
    from furcate.protocol.graph import TextOf
    from furcate.protocol.message import Value

    def react(channel, request):
        if isinstance(request, Graph) and isinstance(request.nodes[-1], TextOf):
            return [Value(request.program, request.nodes[-1].value, "whole text")]
        return answers(by_hand)(channel, request)

    backend, channel = by_hand(react)
    state = asks.run(backend=backend)
    assert state.text() == "whole text"
    assert channel.sent[-1][0].done is True


def test_a_session_knows_what_it_speaks_to_and_closes_as_a_context(by_hand):
    backend, channel = by_hand()
    with backend as entered:
        assert entered is backend
        assert repr(backend) == "Session('by hand')"
        assert backend.welcome.max_context == 4096
    assert channel.closed


def test_programs_on_two_backends_do_not_meet():
    with fc.Mock("one") as one, fc.Mock("two") as two:
        assert asks.run(backend=one)["a"] == "one"
        assert asks.run(backend=two)["a"] == "two"


@pytest.mark.parametrize("backend", ["mock", 3])
def test_the_default_backend_must_be_one(backend):
    with pytest.raises(fc.UsageError, match="Mock"):
        fc.set_default_backend(backend)


def test_a_message_that_cannot_be_written_fails_its_program_and_no_other(by_hand):
    def react(channel, request):
        if isinstance(request, Graph) and request.program == 0:
            raise OverflowError("too large for the wire")
        return answers(by_hand)(channel, request)

    backend, _ = by_hand(react)
    with pytest.raises(OverflowError):
        asks.run(backend=backend)
    assert asks.run(backend=backend)["a"] == "x"


WORDS = st.sampled_from(["short", "a" * 80, "b" * 64, "a" * 64 + "b" * 100, "é" * 70, "x\n" * 50])
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=4).map("".join), max_size=12)


@given(batches=st.lists(TEXTS, max_size=4))
def test_whatever_is_shared_each_text_arrives_whole(batches):
    tables, segments = Tables(), []
    for number, texts in enumerate(batches):
        recorded = tuple(
            Recorded(Text(place, text), "text", "") for place, text in enumerate(texts)
        )
        requests, (nodes,) = tables.write([Taken(number, 0, recorded, False, None)])
        for request in requests:
            assert isinstance(request, Segments)
            assert request.first == len(segments)
            segments.extend(request.texts)
        arrived = ["" for _ in texts]
        for node, _ in nodes:
            piece = node.text if isinstance(node.text, str) else segments[node.text]
            arrived[node.branch] += piece
        assert arrived == texts
        assert len(set(segments)) == len(segments)


def test_failures_after_a_split_text_still_name_their_line():
    prefix = "A long beginning that all of these requests have in common, as usual. "

    @fc.function
    def program(s, word):
        s += prefix + "and a long second part that only two of them share with each other " + word
        s += fc.gen("a")

    def reply(call):
        if "bad" in call.text:
            raise LookupError("theirs")
        return "R"

    with fc.Mock(reply) as backend:
        states = program.run_batch([("x",), ("bad",), ("y",)], backend=backend, on_error="return")
    line = program._body.__code__.co_firstlineno + 3
    assert [state.ok for state in states] == [True, False, True]
    assert states[1].error().location == f"{__file__}:{line}"


@pytest.mark.parametrize("address", [None, 5, b"ipc:///x"])
def test_an_address_that_is_no_string_is_named(address):
    with pytest.raises(fc.UsageError, match="an address is a string") as raised:
        fc.connect(address)
    assert repr(address) in str(raised.value)
