"""Stop patterns against the plainest reading of what they mean: Python's own `re`, asked about
every part of the text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.scheduler.stop_texts import assert_safe_is_kept, push_in_pieces

from furcate.errors import ConstraintError
from furcate.protocol.pattern import MAX_PATTERN_CHARS, MAX_PATTERNS, check_patterns, parse_pattern
from furcate.runtime.scheduler.stop_patterns import (
    MAX_MATCH_CHARS,
    PatternFollower,
    automata_of,
)
from furcate.runtime.scheduler.stops import StopFound, StopMatcher

TEXTS = st.text("ab1 \né日", max_size=14)

ATOMS = st.sampled_from(
    ["a", "b", "1", "é", "日", ".", "[ab]", "[^a]", r"\d", r"\w", r"\s", r"\S", "[b-é]", r"\n"]
)


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    group = inner.map(lambda part: f"({part})")
    counts = st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,}", "*?", "{,2}"])
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda parts: f"(?:{parts[0]}|{parts[1]})"),
        st.tuples(group, counts).map("".join),
    )


PATTERNS = st.recursive(ATOMS, _grow, max_leaves=6).filter(lambda p: not re.fullmatch(p, ""))


def first_stop(text: str, patterns: list[str], stops: list[str]) -> StopFound | None:
    """The specification: what ends first; of those that end together, the longest."""
    for end in range(1, len(text) + 1):
        for start in range(end):
            part = text[start:end]
            if part in stops or any(re.fullmatch(pattern, part) for pattern in patterns):
                return StopFound(part.encode(), len(text[:start].encode()))
    return None


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.lists(PATTERNS, min_size=1, max_size=2), st.lists(TEXTS.filter(bool), max_size=1))
def test_a_match_ends_the_output_where_the_plainest_search_says(text, patterns, stops) -> None:
    expected = first_stop(text, patterns, stops)
    encoded = tuple(stop.encode() for stop in stops)
    assert StopMatcher(encoded, tuple(patterns)).push(text.encode()) == expected


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=16) | TEXTS.map(str.encode),
    st.lists(PATTERNS, min_size=1, max_size=2),
    st.data(),
)
def test_a_match_is_the_same_however_the_output_is_cut(text, patterns, data) -> None:
    expected = StopMatcher((), tuple(patterns)).push(text)
    matcher = StopMatcher((), tuple(patterns))
    assert push_in_pieces(matcher, text, data) == expected


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=16) | TEXTS.map(str.encode), st.lists(PATTERNS, min_size=1, max_size=2))
def test_what_is_safe_is_never_taken_back_by_a_pattern(text, patterns) -> None:
    matcher = StopMatcher((b"ab",), tuple(patterns))
    assert_safe_is_kept(matcher, text)


@pytest.mark.parametrize(
    ("pattern", "text", "matched"),
    [
        (r"\n\n+", "one\n\n\ntwo", "\n\n"),
        (r"Q(uestion)?\s*:", "A: x Question :", "Question :"),
        (r"(?i)stop\.", "go. StOp. no", "StOp."),
        (r"(?s)<.*>", "a<b\nc>d", "<b\nc>"),
        (r"<.*>", "a<b\nc>d", None),
        (r"<.*>", "a<b<c>d", "<b<c>"),
        (r"a.*?c", "xabcc", "abc"),
        (r"(?P<year>\d{4})-(?<month>\d\d)", "on 2024-05-01", "2024-05"),
        (r"[\]\-x]{2}", "a-]", "-]"),
        (r"[]a]", "]", "]"),
        (r"{a}", "{a}", "{a}"),
        (r"\x41\u00e9\0", "Aé\0", "Aé\0"),
        (r"[^\W\d]\d", "_7", "_7"),
        (r"\.", "3.5", "."),
        ("日本?", "日本", "日"),
    ],
)
def test_patterns_as_people_write_them(pattern: str, text: str, matched: str | None) -> None:
    check_patterns([pattern])
    found = StopMatcher((), (pattern,)).push(text.encode())
    assert (None if found is None else found.stop.decode()) == matched


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "1 to 256 characters"),
        ("a" * (MAX_PATTERN_CHARS + 1), "1 to 256 characters"),
        ("a(", r"'\(' at 1 is never closed"),
        ("a)", r"'\)' at 1 closes nothing"),
        ("[a", r"'\[' at 0 is never closed"),
        ("*a", "nothing to repeat at 0"),
        ("a**", "nothing to repeat at 2"),
        ("a++", "possessive"),
        ("a{3,2}", "wrong way round"),
        ("[b-a]", "range that is none"),
        ("^a", "beginning of the text"),
        ("a$", "end of the text"),
        (r"\bEND\b", "what stands around the match"),
        (r"(a)\1", "looks back at a group"),
        ("(?=a)b", "looks around"),
        ("(?<!a)b", "looks around"),
        ("(?m)a", "flag 'm'"),
        ("(?>a)", "kind of the group"),
        (r"\p{L}", "no escape"),
        (r"\xg1", "no character's"),
        ("a\\", "must follow"),
        ("a*", "empty text"),
        ("a|", "empty text"),
        ("(a?){3}", "empty text"),
        ("(" * 40 + "a" + ")" * 40, "nested more than 24 deep"),
    ],
)
def test_a_pattern_that_cannot_stop_an_output_is_refused_by_name(pattern: str, reason: str) -> None:
    with pytest.raises(ConstraintError, match=reason) as raised:
        check_patterns(["fine", pattern])
    assert repr(pattern[:40])[:-1] in str(raised.value)


def test_patterns_have_a_number_and_a_size() -> None:
    with pytest.raises(ConstraintError, match="may hold 32 patterns, got 33"):
        check_patterns(["a"] * (MAX_PATTERNS + 1))
    check_patterns(["(ab){512}"])
    with pytest.raises(ConstraintError, match="spells out 1025 characters"):
        check_patterns(["(ab){512}", "c"])
    with pytest.raises(ConstraintError, match="spells out 1000000000 characters"):
        check_patterns(["((a{1000}){1000}){1000}"])


def test_of_a_match_that_goes_on_for_ever_only_so_much_is_held_back() -> None:
    matcher = StopMatcher((), ("<[^>]*>",))
    matcher.push(b"<" + b"x" * (2 * MAX_MATCH_CHARS - 2))
    assert matcher.safe_length == 0
    matcher.push(b"x")
    assert matcher.safe_length == 2 * MAX_MATCH_CHARS, "what began so long ago is no match any more"
    assert matcher.push(b"> <y>") == StopFound(b"<y>", 2 * MAX_MATCH_CHARS + 2)


def test_a_match_of_the_length_that_is_promised_is_found_wherever_it_begins() -> None:
    for before in (0, 1, MAX_MATCH_CHARS // 2, MAX_MATCH_CHARS, 5 * MAX_MATCH_CHARS - 1):
        match = b"<" + b"x" * (MAX_MATCH_CHARS - 2) + b">"
        found = StopMatcher((), ("<x*>", "(?s).*Z")).push(b"." * before + match)
        assert found == StopFound(match, before)


@settings(max_examples=200, deadline=None)
@given(st.text("ab1 ", max_size=24), PATTERNS, st.integers(1, 4), st.data())
def test_a_window_finds_what_fits_in_it_and_nothing_twice_as_long(text, pattern, window, data):
    def follow(cut: bool) -> tuple[int, int] | None:
        follower = PatternFollower(automata_of((pattern,)), window)
        at, safe = 0, 0
        while at < len(text):
            size = data.draw(st.integers(1, len(text) - at)) if cut else len(text) - at
            found = follower.push(text[at : at + size].encode())
            if found is not None:
                assert found[1] >= safe
                return found
            assert follower.safe >= max(safe, at + size - 2 * window)
            safe = follower.safe
            at += size
        return None

    found = follow(cut=False)
    assert found == follow(cut=True)
    if found is not None:
        end, start = found
        assert end - start <= 2 * window
        assert re.fullmatch(pattern, text[start:end])
    fits = [
        end
        for end in range(1, len(text) + 1)
        if any(re.fullmatch(pattern, text[s:end]) for s in range(max(0, end - window), end))
    ]
    assert not fits or (found is not None and found[0] <= fits[0])


def test_a_match_in_a_piece_that_does_not_count_is_none() -> None:
    matcher = StopMatcher((b"!",), (r"\d+",))
    assert matcher.push(b"a1!", counts=False) is None
    assert matcher.push(b"b") is None
    assert matcher.push(b"2") == StopFound(b"2", 4)
    matcher = StopMatcher((b"!?",), (r"\d+b",))
    matcher.push(b"12", counts=False)
    assert matcher.push(b"b") == StopFound(b"12b", 0), "it ends where it counts"


def test_what_is_remembered_has_a_bound_however_long_the_output() -> None:
    follower = PatternFollower(automata_of((r"a.{200}b|(?:x|yz){1,90}[^a]7",)))
    for at in range(60_000):
        follower.push(b"ayzxc"[at * at % 5 : at * at % 5 + 1])
    assert len(follower.automata.forward._steps) <= 8192
    assert len(follower._chars) == 2 * MAX_MATCH_CHARS


@given(PATTERNS)
def test_every_pattern_that_is_generated_here_is_accepted(pattern: str) -> None:
    parse_pattern(pattern)
