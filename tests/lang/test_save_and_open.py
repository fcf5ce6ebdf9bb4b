"""Sessions: what one program saves, another goes on from."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.in_process import context_session, model_session, scripted_session

import furcate as fc
from furcate.runtime.graph.limits import Limits
from furcate.runtime.testing import ContextModel

pytestmark = pytest.mark.timeout(20)


@pytest.fixture
def backend():
    with context_session() as session:
        yield session


def turn(s, question, name):
    s += fc.user(question)
    s += fc.assistant(fc.gen(name, max_tokens=12, return_logprob=True))


@fc.function
def first(s, question, save="chat"):
    s += fc.system("Be brief.")
    turn(s, question, "answer_1")
    s.save(save)


@fc.function
def second(s, question):
    turn(s, question, "answer_2")


@fc.function
def both(s, question_1, question_2):
    s += fc.system("Be brief.")
    turn(s, question_1, "answer_1")
    turn(s, question_2, "answer_2")


def ids_of(state, name):
    return [token for _, token, _ in state.get_meta_info(name)["output_token_logprobs"]]


def test_a_program_goes_on_with_the_ids_of_the_one_that_saved(backend):
    whole = both.run("Why?", "And then?", temperature=0.0, backend=backend)
    first.run("Why?", temperature=0.0, backend=backend)
    opened = second.open(session="chat").run("And then?", temperature=0.0, backend=backend)
    assert opened.text() == whole.text()
    assert ids_of(opened, "answer_2") == ids_of(whole, "answer_2")
    assert (
        opened.get_meta_info("answer_2")["prompt_tokens"]
        == (whole.get_meta_info("answer_2")["prompt_tokens"])
    )


def test_what_was_said_before_is_not_computed_again(backend):
    first.run("Why?", temperature=0.0, backend=backend)
    opened = second.open(session="chat").run("And then?", temperature=0.0, backend=backend)
    before = first.run("Why?", temperature=0.0, backend=backend).get_meta_info("answer_1")
    said = before["prompt_tokens"] + before["completion_tokens"]
    assert opened.get_meta_info("answer_2")["cached_tokens"] >= said


def test_turns_and_text_of_the_session_come_first(backend):
    before = first.run("Why?", backend=backend)
    opened = second.open(session="chat").run("And then?", backend=backend)
    assert opened.messages() == [
        *before.messages(),
        {"role": "user", "content": "And then?"},
        {"role": "assistant", "content": opened["answer_2"]},
    ]
    assert opened.text().startswith(before.text())


def test_an_open_text_run_goes_on_as_one(backend):
    @fc.function
    def half(s):
        s += "The capital of Fra"
        s.save("half")

    @fc.function
    def rest(s):
        s += "nce is "
        s += fc.gen("city", max_tokens=5)

    @fc.function
    def whole(s):
        s += "The capital of France is "
        s += fc.gen("city", max_tokens=5)

    half.run(backend=backend)
    opened = rest.open(session="half").run(backend=backend, seed=3)
    assert opened.text() == whole.run(backend=backend, seed=3).text()


def test_variables_of_the_session_are_read_by_name(backend):
    @fc.function
    def saves(s):
        s += "x"
        s += fc.gen("text", max_tokens=3)
        s += fc.gen("three", max_tokens=2, n=3)
        s += fc.select("word", ["yes", "no"])
        s["number"], s["own"], s["object"] = 7, "mine", object()
        s["ref"] = s.ref("text").upper()
        s.save("values")

    @fc.function
    def reads(s):
        s += " and " + s.ref("text")
        return s["word"], s["number"]

    before = saves.run(backend=backend)
    state = reads.open(session="values").run(backend=backend)
    assert state.ret_value == (before["word"], 7)
    for name in ("text", "three", "word", "own", "number"):
        assert name in state
        assert state[name] == before[name]
    assert state["ref"] == before["text"].upper()
    assert state.text() == before.text() + " and " + before["text"]
    assert "object" not in state
    assert "nothing" not in state


def test_a_name_that_the_session_lacks_is_an_error_that_lists_what_it_has(backend):
    first.run("Why?", backend=backend)
    state = second.open(session="chat").run("And?", backend=backend)
    with pytest.raises(fc.ProgramError, match=r"'answer_9'.*it has 'answer_1'") as caught:
        state["answer_9"]
    assert isinstance(caught.value.cause, fc.UsageError)
    assert "answer_9" not in state


def test_an_unknown_session_is_named_with_those_that_exist(backend):
    first.run("Why?", backend=backend)
    with pytest.raises(fc.ProgramError, match=r"no session 'chatt'; there is 'chat'") as caught:
        second.open(session="chatt").run("?", backend=backend)
    assert isinstance(caught.value.cause, fc.UsageError)


def test_saving_again_takes_the_place_of_what_was_saved(backend):
    first.run("Why?", backend=backend)

    @fc.function
    def goes_on(s, question, name):
        turn(s, question, name)
        s.save("chat")

    for number in (2, 3, 4):
        run = goes_on.open(session="chat").run
        state = run(f"Question {number}", f"answer_{number}", backend=backend)
    assert [m["content"] for m in state.messages() if m["role"] == "user"] == [
        "Why?",
        "Question 2",
        "Question 3",
        "Question 4",
    ]
    reopened = second.open(session="chat").run("Last", backend=backend)
    assert reopened["answer_3"] == state["answer_3"]
    assert reopened["answer_1"] == state["answer_1"]


def test_an_async_program_saves_what_it_was_opened_with(backend):
    first.run("Why?", backend=backend)

    @fc.function
    async def goes_on(s, question):
        turn(s, question, "answer_2")
        s["answer_1"] = "mine" if question == "mine" else await s.aget("answer_1")
        s.save("chat")

    before = goes_on.open(session="chat").run("And?", backend=backend)
    after = second.open(session="chat").run("?", backend=backend)
    assert after["answer_1"] == before["answer_1"]
    goes_on.open(session="chat").run("mine", backend=backend)
    assert second.open(session="chat").run("?", backend=backend)["answer_1"] == "mine"


def test_a_name_that_was_asked_for_in_vain_is_not_saved(backend):
    first.run("Why?", backend=backend)

    @fc.function
    def asks(s):
        try:
            s["nothing"]
        except fc.ProgramError:
            s.save("chat")

    asks.open(session="chat").run(backend=backend)
    state = second.open(session="chat").run("?", backend=backend)
    assert ("nothing" in state, "answer_1" in state) == (False, True)


def test_a_branch_is_saved_as_it_is_and_others_go_on(backend):
    @fc.function
    def forks(s):
        s += "Common. "
        a, b = s.fork(2)
        a += "Of a. "
        a.save("a")
        b += "Of b. "
        a += "Later."
        b += fc.gen("x", max_tokens=2)
        b.save("b")
        return b.text()

    @fc.function
    def empty(s):
        pass

    of_b = forks.run(backend=backend).ret_value
    assert empty.open(session="a").run(backend=backend).text() == "Common. Of a. "
    assert empty.open(session="b").run(backend=backend).text() == of_b


def test_a_batch_may_begin_from_one_session(backend):
    first.run("Why?", backend=backend)
    states = second.open(session="chat").run_batch([("a",), ("b",)], backend=backend)
    assert [state.messages()[3]["content"] for state in states] == ["a", "b"]


def test_sessions_belong_to_their_tenant(backend):
    first.run("Why?", backend=backend, tenant="one")
    with pytest.raises(fc.ProgramError, match="no session 'chat'; there is none"):
        second.open(session="chat").run("?", backend=backend, tenant="two")
    second.open(session="chat").run("?", backend=backend, tenant="one")


def test_the_least_recently_used_session_goes_first():
    with model_session(ContextModel(), limits=Limits(sessions=2)) as backend:
        first.run("1", save="one", backend=backend)
        first.run("2", save="two", backend=backend)
        second.open(session="one").run("?", backend=backend)
        first.run("3", save="three", backend=backend)
        second.open(session="one").run("?", backend=backend)
        with pytest.raises(fc.ProgramError, match="there is 'three', 'one'"):
            second.open(session="two").run("?", backend=backend)


def test_a_session_too_large_to_keep_is_an_error_by_name():
    with model_session(ContextModel(), limits=Limits(session_bytes=1000)) as backend:
        with pytest.raises(fc.ProgramError, match="session 'chat' has about") as caught:
            first.run("Why? " * 200, backend=backend)
        assert isinstance(caught.value.cause, fc.CapacityError)


def test_a_branch_that_has_failed_is_not_saved():
    with scripted_session({"a": "b"}) as backend:

        @fc.function
        def fails(s):
            s += "a"
            s += fc.gen("x", stop_token_ids=[10**6])
            s.save("never")

        with pytest.raises(fc.ProgramError):
            fails.run(backend=backend)
        with pytest.raises(fc.ProgramError, match="there is none"):
            second.open(session="never").run("?", backend=backend)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.save(""), "1 to 256 characters, got ''"),
        (lambda s: s.save("x", ttl=0), "ttl must be a positive number of seconds, got 0"),
        (lambda s: second.open(session=3), "got 3"),
    ],
)
def test_bad_names_and_times_raise_at_the_call(backend, call, message):
    @fc.function
    def body(s):
        call(s)

    with pytest.raises(fc.UsageError, match=message):
        body.run(backend=backend)


def test_saving_inside_a_role_is_an_error_that_names_it(backend):
    @fc.function
    def body(s):
        with s.user():
            s.save("half")

    with pytest.raises(fc.UsageError, match="inside the role 'user'"):
        body.run(backend=backend)


def test_explaining_what_was_opened_says_what_to_explain_instead():
    with pytest.raises(fc.UsageError, match="where session 'chat' is: explain the program"):
        second.open(session="chat").explain("?")


def test_a_session_may_be_saved_again_and_again_in_a_loop(backend):
    @fc.function
    def loops(s):
        s += "Count:"

        def turn(s):
            s += " and " + fc.gen("number", max_tokens=2)
            s.save("count")

        s.loop(turn, max_iters=3)

    @fc.function
    def reads(s):
        return s["number"]

    text = loops.run(backend=backend).text()
    opened = reads.open(session="count").run(backend=backend)
    assert opened.text() == text
    assert text.endswith(opened.ret_value)


# Any program, cut anywhere -----------------------------------------------------------------------

TEXTS = st.text("ab \né", max_size=4)
PARTS = st.one_of(
    st.tuples(st.just("text"), TEXTS),
    st.tuples(st.just("user"), TEXTS),
    st.tuples(st.just("gen"), st.just("")),
    st.tuples(st.just("answer"), TEXTS),
    st.tuples(st.just("select"), TEXTS),
    st.tuples(st.just("child"), TEXTS),
)


def append(s, part):
    kind, text = part
    if kind == "text":
        s += text
    elif kind == "user":
        s += fc.user(text)
    elif kind == "gen":
        s += fc.gen(max_tokens=3)
    elif kind == "answer":
        s += fc.assistant(text + fc.gen(max_tokens=3))
    elif kind == "select":
        s += text + fc.select(choices=["ab", "ba"], temperature=1.0)
    else:
        group = s.fork(2)
        group += [text + fc.gen(max_tokens=2), "x"]
        group.join("append")


@fc.function
def says(s, parts):
    s += "begin"
    for part in parts:
        append(s, part)
    s.save("part")


@fc.function
def goes_on(s, parts):
    for part in parts:
        append(s, part)
    s.save("part")


@pytest.fixture(scope="module")
def one_backend():
    with context_session() as session:
        yield session


@settings(max_examples=40, deadline=None)
@given(st.lists(PARTS, max_size=6), st.sets(st.integers(0, 6), max_size=3), st.integers(0, 9))
def test_a_program_cut_into_sessions_says_what_it_says_whole(one_backend, parts, cuts, seed):
    options = {"backend": one_backend, "seed": seed}
    whole = says.run([*parts, ("gen", "")], **options)
    edges = [0, *sorted(cut for cut in cuts if cut <= len(parts)), len(parts)]
    pieces = [parts[begin:end] for begin, end in itertools.pairwise(edges)]
    state = says.run(pieces[0], **options)
    for piece in [*pieces[1:], [("gen", "")]]:
        state = goes_on.open(session="part").run(piece, **options)
    assert state.text() == whole.text()
    assert state.messages() == whole.messages()
