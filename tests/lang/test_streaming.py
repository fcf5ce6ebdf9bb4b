import asyncio
import threading

import pytest

import furcate as fc
from furcate.protocol.graph import Gen
from furcate.protocol.message import Delta, Graph, Value

pytestmark = pytest.mark.timeout(10)


@fc.function
def two_turns(s, question):
    s += fc.user(question)
    s += fc.assistant(fc.gen("one"))
    s += fc.user("and " + s["one"])
    s += fc.assistant(fc.gen("two"))
    return s["two"]


@pytest.fixture
def backend():
    with fc.Mock(["alpha beta", "gamma delta"]) as mock:
        yield mock


def test_text_iter_gives_the_branch_as_it_is_appended(backend):
    state = two_turns.run("q", backend=backend, stream=True)
    pieces = list(state.text_iter())
    assert "".join(pieces) == "qalpha betaand alpha betagamma delta"
    assert len(pieces) >= 4
    assert state.ret_value == "gamma delta"


def test_text_iter_of_one_variable_waits_for_it_to_be_recorded(backend):
    state = two_turns.run("q", backend=backend, stream=True)
    assert list(state.text_iter("two")) in (["gamma", " delta"], ["gamma delta"])
    assert state["one"] == "alpha beta"


def test_pieces_arrive_before_the_generation_has_ended(by_hand):
    backend, channel = by_hand()
    state = fc.function(lambda s: s.user(fc.gen("a")) and None).run(backend=backend, stream=True)
    pieces = state.text_iter("a")
    channel.wait_for(lambda c: any(r.done for sent in c.sent for r in sent))
    channel.deliver([Delta(0, 0, 0, 0, "one ")])
    assert next(pieces) == "one "
    channel.deliver([Delta(0, 0, 0, 0, "two")])
    assert next(pieces) == "two"
    channel.deliver([Value(0, 0, "one two!"), by_hand.finished(0)])
    assert list(pieces) == ["!"]


def test_a_program_that_streams_says_so_on_the_wire(by_hand):
    backend, channel = by_hand(
        lambda c, r: [by_hand.finished(r.program)] if isinstance(r, Graph) else []
    )
    fc.function(lambda s: None).run(backend=backend, stream=True).sync()
    channel.wait_for(lambda c: c.sent)
    assert channel.sent[0][0].options.stream is True


def test_events_show_every_branch_and_variable(backend):
    @fc.function
    def forks(s):
        group = s.fork(2)
        group += fc.gen("note")
        group.join()

    for stream in (True, False):
        with fc.Mock(["a b", "c d"]) as backend:
            state = forks.run(backend=backend, stream=stream)
            events = list(state.events())
        texts: dict[tuple[int, str], str] = {}
        for event in events:
            assert event.node == "gen 'note'"
            texts[event.branch, event.var] = texts.get((event.branch, event.var), "") + event.delta
        assert texts == {(1, "note"): "a b", (2, "note"): "c d"}


def test_async_iteration(backend):
    async def read():
        state = await two_turns.astart("q", backend=backend)
        pieces = [piece async for piece in state.text_async_iter("two")]
        deltas = [event.delta async for event in state.events()]
        return "".join(pieces), "".join(deltas)

    assert asyncio.run(read()) == ("gamma delta", "alpha betagamma delta")


def test_async_iteration_with_meta_data(backend):
    async def read():
        state = await two_turns.astart("q", backend=backend)
        pairs = [pair async for pair in state.text_async_iter("one", return_meta_data=True)]
        with pytest.raises(fc.UsageError, match="variable"):
            async for _ in state.text_async_iter(return_meta_data=True):
                pass
        return pairs

    pairs = asyncio.run(read())
    assert "".join(text for text, _ in pairs) == "alpha beta"
    assert pairs[-1][1]["finish_reason"] == {"type": "eos"}


def test_meta_data_of_a_text_that_still_comes_names_no_reason_to_have_finished(by_hand):
    def answer(_, request):
        if not isinstance(request, Graph):
            return []
        (gen,) = (node for node in request.nodes if isinstance(node, Gen))
        return [Delta(0, 0, gen.value, 0, "one ")]

    @fc.function
    def program(s):
        s += fc.gen("x")

    async def first_pair():
        backend, _ = by_hand(answer)
        state = await program.astart(backend=backend, stream=True)
        async for pair in state.text_async_iter("x", return_meta_data=True):
            state.cancel()
            return pair

    text, info = asyncio.run(first_pair())
    assert (text, info["finish_reason"]) == ("one ", None)


def test_an_async_program_is_started_as_a_task(backend):
    @fc.function
    async def body(s):
        s += fc.gen("a")
        s += fc.gen(stop=await s.aget("a"))

    async def read():
        state = await body.astart(backend=backend)
        pieces = [piece async for piece in state.text_async_iter("a")]
        return "".join(pieces), [event.delta async for event in state.events()]

    text, deltas = asyncio.run(read())
    assert text == "alpha beta"
    assert "".join(deltas) == "alpha betagamma delta"


def test_an_error_of_the_body_comes_out_of_whatever_reads_the_state(backend):
    @fc.function
    def body(s):
        s += fc.gen("a")
        raise LookupError("mine")

    def fresh():
        return body.run(backend=fc.Mock("x"), stream=True)

    for read in (
        lambda s: list(s.text_iter()),
        lambda s: list(s.events()),
        lambda s: s.ret_value,
        lambda s: s["never"],
    ):
        with pytest.raises(LookupError, match="mine"):
            read(fresh())
    state = fresh()
    with pytest.raises(LookupError):
        state["never"]
    assert isinstance(state.error().cause, LookupError)


def test_a_failed_node_comes_out_of_the_stream():
    def reply(call):
        raise LookupError("theirs")

    with fc.Mock(reply) as backend:
        program = fc.function(lambda s: s.user("q" + fc.gen("a")) and None)
        for read in (lambda s: list(s.text_iter()), lambda s: list(s.events())):
            with pytest.raises(fc.ProgramError, match="theirs"):
                read(program.run(backend=backend, stream=True))


def test_ok_and_error_of_a_streaming_run_wait_for_its_end(by_hand):
    backend, channel = by_hand()
    state = fc.function(lambda s: s.user(fc.gen("a")) and None).run(backend=backend, stream=True)
    channel.wait_for(lambda c: any(r.done for sent in c.sent for r in sent))
    answer = [*by_hand.values(0, channel.nodes), by_hand.finished(0)]
    threading.Thread(target=channel.deliver, args=(answer,)).start()
    assert state.ok


def test_the_samples_of_an_n_are_told_apart():
    with fc.Mock(lambda call: f"s{call.sample}") as backend:
        program = fc.function(lambda s: s.user(fc.gen("a", n=2)) and None)
        events = list(program.run(backend=backend, stream=True).events())
    assert [(event.sample, event.delta) for event in events] == [(0, "s0"), (1, "s1")]


def test_a_finished_run_can_be_iterated_too(backend):
    state = two_turns.run("q", backend=backend)
    assert "".join(state.text_iter("one")) == "alpha beta"
    assert "".join(state.text_iter()) == "qalpha betaand alpha betagamma delta"


def test_a_streaming_run_uses_one_thread_and_ends_it(backend):
    state = two_turns.run("q", backend=backend, stream=True)
    list(state.events())
    assert state.ret_value
    for thread in threading.enumerate():
        if thread.name == "furcate-program":
            thread.join(5)
    assert not [t for t in threading.enumerate() if t.name == "furcate-program"]
