"""Pins: what every run of a program begins with stays in the cache."""

import pytest
from tests.fakes.in_process import context_session, model_session

import furcate as fc
from furcate.runtime.testing import ContextModel

pytestmark = pytest.mark.timeout(30)

RULES = "These rules hold for every question that is asked here. " * 4


@fc.function
def answers(s, question):
    s += fc.system(RULES)
    s += fc.user("Question: " + question)
    s += fc.assistant(fc.gen("answer", max_tokens=4))


@fc.function
def other(s, number):
    s += f"{number} is a number unlike the others. " * 10
    s += fc.gen("x", max_tokens=2)


@pytest.fixture
def backend():
    with context_session(num_pages=64) as session:
        yield session


def press(backend):
    """Fills the cache many times over."""
    other.run_batch([(number,) for number in range(40)], backend=backend)


def cached(backend):
    return answers.run("Why?", backend=backend).get_meta_info("answer")["cached_tokens"]


def test_a_pinned_beginning_is_reused_whatever_ran_meanwhile(backend):
    with answers.pin(backend=backend) as pinned:
        assert pinned.tokens > len(RULES)
        press(backend)
        assert cached(backend) >= pinned.tokens
        press(backend)
        assert cached(backend) >= pinned.tokens
    press(backend)
    assert cached(backend) == 0


def test_without_a_pin_it_would_have_gone(backend):
    answers.run("Why?", backend=backend)
    press(backend)
    assert cached(backend) == 0


def test_what_a_program_says_does_not_depend_on_the_pin(backend):
    before = answers.run("Why?", backend=backend, seed=4)
    with answers.cache(backend=backend):
        assert answers.run("Why?", backend=backend, seed=4).text() == before.text()


def test_an_open_run_of_text_is_pinned_without_being_cut(backend):
    @fc.function
    def half(s, name):
        s += RULES + "My name is "
        s += name
        s += fc.gen("x", max_tokens=2)

    with half.pin(backend=backend) as pinned:
        press(backend)
        meta = half.run("Ada", backend=backend).get_meta_info("x")
        assert meta["cached_tokens"] >= pinned.tokens == len(RULES) + 11


def test_arguments_that_are_bound_are_part_of_the_beginning(backend):
    @fc.function
    def ruled(s, rules, question="What?"):
        s += fc.system(rules)
        s += fc.user(question)
        s += fc.assistant(fc.gen("answer", max_tokens=2))

    bound = ruled.bind(rules=RULES)
    with bound.pin(backend=backend) as pinned:
        press(backend)
        meta = bound.run(question="Why?", backend=backend).get_meta_info("answer")
        assert meta["cached_tokens"] >= pinned.tokens > len(RULES)
    with pytest.raises(fc.UsageError, match="nothing to pin"):
        ruled.pin(backend=backend)


def test_the_server_says_what_is_pinned(backend):
    with answers.pin(backend=backend) as pinned:
        assert fc.get_server_info(backend)["cache_tokens_pinned"] == pinned.tokens
        assert fc.get_server_info(backend)["pins"] == 1
        assert str(pinned.tokens) in repr(pinned)
    assert fc.get_server_info(backend)["cache_tokens_pinned"] == 0
    pinned.unpin()


def test_flushing_the_cache_ends_pins(backend):
    answers.pin(backend=backend)
    assert fc.flush_cache(backend)["pins"] == 0
    assert cached(backend) == 0


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda s, x: s.user(x), id="append"),
        pytest.param(lambda s, x: s.user(f"Hello {x}"), id="f-string"),
        pytest.param(lambda s, x: s.user("Hello " + x), id="after a string"),
        pytest.param(lambda s, x: s.user("a" if x else "b"), id="truth"),
        pytest.param(lambda s, x: [s.user(y) for y in x], id="iteration"),
        pytest.param(lambda s, x: s.user({"a": "b"}[x]), id="key"),
        pytest.param(lambda s, x: s.user(x.name), id="attribute"),
        pytest.param(lambda s, x: s.user("a" * x), id="multiplication"),
        pytest.param(lambda s, x: s.user(str(len(x))), id="length"),
        pytest.param(lambda s, x: isinstance(x, str) and s.user("a"), id="isinstance"),
        pytest.param(lambda s, x: s.fork(2), id="fork"),
        pytest.param(lambda s, x: s.user(fc.gen("y")), id="generation"),
    ],
)
def test_any_use_of_what_is_not_bound_ends_the_beginning(backend, use):
    @fc.function
    def body(s, x):
        s += fc.system(RULES)
        use(s, x)
        s += "never"

    @fc.function
    def plain(s):
        s += fc.system(RULES)

    expected = plain.pin(backend=backend).tokens
    assert expected <= body.pin(backend=backend).tokens <= expected + 8  # "user" may have begun


def test_a_role_that_closes_on_the_way_out_is_no_part_of_it(backend):
    @fc.function
    def body(s, x):
        with s.user():
            s += "Hello "
            s += x

    @fc.function
    def plain(s):
        s += fc.user_begin() + "Hello "

    assert body.pin(backend=backend).tokens == plain.pin(backend=backend).tokens


def test_async_programs_are_pinned_too(backend):
    @fc.function
    async def body(s, x):
        s += fc.system(RULES)
        s += x

    assert body.pin(backend=backend).tokens > len(RULES)


def test_a_program_that_begins_with_what_differs_has_nothing_to_pin(backend):
    @fc.function
    def body(s, x):
        s += x

    with pytest.raises(fc.UsageError, match=r"nothing to pin: .*body"):
        body.pin(backend=backend)


def test_more_than_its_share_of_the_cache_is_refused_by_name():
    with model_session(ContextModel(), num_pages=32) as backend:
        with pytest.raises(fc.ProgramError, match=r"too many to pin.*256 may be") as caught:
            long_prefix.pin(backend=backend)
        assert isinstance(caught.value.cause, fc.CapacityError)
        assert fc.get_server_info(backend)["pins"] == 0
        assert cached(backend) >= 0


@fc.function
def long_prefix(s):
    s += "x" * 300


def test_a_time_that_is_none_raises_at_the_call(backend):
    with pytest.raises(fc.UsageError, match="ttl must be a positive number of seconds, got -1"):
        answers.pin(-1, backend=backend)


def test_an_error_of_the_body_before_the_end_is_its_own(backend):
    @fc.function
    def body(s, x):
        s += "a"
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        body.pin(backend=backend)


def test_pins_work_on_a_mock():
    with fc.Mock("x") as mock:
        assert answers.pin(backend=mock).tokens > 10
