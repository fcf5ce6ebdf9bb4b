"""Stop patterns from a program's node to the text that comes back, on every way a token is made."""

from __future__ import annotations

import re

import pytest
from tests.fakes.front_driver import Driver
from tests.fakes.toy_bpe import toy_bpe

from furcate.protocol.constraint import Constraint
from furcate.protocol.graph import Fill, Gen, Text
from furcate.protocol.message import Constraints, Delta, Value, ValueMeta
from furcate.protocol.sampling import Sampling
from furcate.runtime.testing import ContextModel, ScriptedModel, make_scheduler, reply_with

PATTERNS = [r"\d", r"[a-z]{2}\W", r"(?i)[xyz].?[a-m]", r"[^!]{5}[A-Z]+[0-9]?"]


def context(overlap: bool = False) -> Driver:
    return Driver(make_scheduler(ContextModel(), overlap=overlap))


def run(driver: Driver, sampling: Sampling, *, stream: bool = False) -> tuple[object, ValueMeta]:
    driver.program(Text(0, "it was "), Gen(0, 0, 1, sampling), stream=stream)
    driver.run()
    (value,) = [event for event in driver.of(Value) if isinstance(event, Value)]
    assert value.meta is not None
    return value.data, value.meta


def cut(text: str, pattern: str) -> tuple[str, str] | None:
    """What comes before the first match to end, and the longest match that ends there."""
    for end in range(len(text) + 1):
        for start in range(end):
            if re.fullmatch(pattern, text[start:end]):
                return text[:start], text[start:end]
    return None


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_output_ends_before_the_first_match(pattern: str, overlap: bool) -> None:
    free = Sampling(max_tokens=80, ignore_eos=True)
    text, _ = run(context(overlap), free)
    expected = cut(str(text), pattern)
    assert expected is not None, "the example shows nothing"
    driver = context(overlap)
    stopped = Sampling(max_tokens=80, ignore_eos=True, stop_regex=("never", pattern))
    data, meta = run(driver, stopped, stream=True)
    assert (data, meta.matched) == expected
    assert meta.finish == "stop"
    assert driver.deltas(0) == data
    assert meta.usage.completion == len(str(data))


def test_an_output_streams_as_far_as_no_match_is_open() -> None:
    reply = ScriptedModel(reply_with({"was ": "one <two three> four"}))
    driver = Driver(make_scheduler(reply))
    data, meta = run(driver, Sampling(max_tokens=80, stop_regex=("<t[^>]*>",)), stream=True)
    assert (data, meta.matched) == ("one ", "<two three>")
    pieces = [event.text for event in driver.of(Delta) if isinstance(event, Delta)]
    assert pieces == list("one ")


def test_a_token_that_a_match_cuts_in_two_keeps_what_comes_before() -> None:
    codec = toy_bpe()
    script = reply_with({"was ": " hello"}, codec=codec, end_id=0)
    model = ScriptedModel(script, codec.vocab_size)
    driver = Driver(make_scheduler(model, codec=codec), codec=codec)
    data, meta = run(driver, Sampling(max_tokens=9, stop_regex=("l+o?",)))
    assert (data, meta.matched) == (" he", "l")


def test_a_match_ends_what_a_constraint_forces() -> None:
    for overlap in (False, True):
        driver = context(overlap)
        driver.send(Constraints(0, (Constraint(kind="regex", body="ab(cd){3}e"),)))
        sampling = Sampling(max_tokens=20, stop_regex=("d.d",))
        driver.program(Text(0, "it was "), Gen(0, 0, 1, sampling, constraint=0), stream=True)
        driver.run()
        assert driver.values() == {0: "abc"}
        assert driver.deltas(0) == "abc"


def test_a_match_before_min_tokens_does_not_count() -> None:
    model = ScriptedModel(reply_with({"was ": "a1b2c3"}))
    sampling = Sampling(max_tokens=9, min_tokens=4, stop_regex=(r"\d",))
    data, meta = run(Driver(make_scheduler(model)), sampling)
    assert (data, meta.matched) == ("a1b", "2")


@pytest.mark.parametrize("steps", range(0, 30, 4))
def test_another_engine_ends_the_output_at_the_same_place(steps: int) -> None:
    sampling = Sampling(max_tokens=60, ignore_eos=True, stop_regex=(r"[A-Z][a-z][^ ]",))
    whole, driver = context(), context()
    expected, _ = run(whole, sampling, stream=True)
    driver.program(Text(0, "it was "), Gen(0, 0, 1, sampling), stream=True)
    for _ in range(steps):
        driver.step()
    driver.lose_engine()
    driver.replace_engine(make_scheduler(ContextModel(), overlap=True))
    driver.run()
    assert driver.values() == {0: expected}
    assert driver.deltas(0) == expected


def test_what_ended_each_sample_is_a_value() -> None:
    sampling = Sampling(max_tokens=40, n=3, ignore_eos=True, stop=("Q",), stop_regex=(r"\d\W?",))
    driver = context()
    driver.program(Text(0, "it was "), Gen(0, 0, 1, sampling, stopped_by=1))
    driver.run()
    outputs, stops = driver.values()[0], driver.values()[1]
    assert isinstance(outputs, list)
    assert isinstance(stops, list)
    assert len(outputs) == len(stops) == 3
    assert all(stop == "" or stop == "Q" or stop[0].isdigit() for stop in stops)
    assert any(stops)


def test_nothing_has_ended_an_output_that_was_cut_at_its_limit() -> None:
    driver = context()
    driver.program(
        Text(0, "it was "),
        Gen(0, 0, 1, Sampling(max_tokens=3, ignore_eos=True, stop=("\0",)), stopped_by=1),
        Fill(0, 1),
        Gen(0, 2, 1, Sampling(max_tokens=3)),
    )
    driver.run()
    assert driver.values()[1] == ""


def test_what_ended_a_failed_output_fails_with_it() -> None:
    driver = context()
    driver.send(Constraints(0, (Constraint(kind="regex", body="("),)))
    driver.program(Text(0, "a"), Gen(0, 0, 1, Sampling(), constraint=0, stopped_by=1))
    driver.run()
    assert [(f.value, f.code) for f in driver.failures()] == [(0, "constraint"), (1, "upstream")]
    assert driver.finished().code is None


def test_a_pattern_that_no_client_would_send_fails_its_node() -> None:
    driver = context()
    driver.program(Text(0, "a"), Gen(0, 0, 1, Sampling(stop_regex=("a(",)), stopped_by=1))
    driver.run()
    assert [(f.value, f.code) for f in driver.failures()] == [(0, "constraint"), (1, "upstream")]
