"""Regular expressions and grammars as users write them."""

from __future__ import annotations

import pytest

from furcate.errors import ConstraintError
from furcate.protocol.constraint import Constraint
from furcate.runtime.constrain.check import check_output
from furcate.runtime.constrain.proof import ProofLimits, prove

MATCHES = {
    "integer": (r"[-+]?[0-9]+[ \n]*", ["7", "-12", "+3 \n"], ["", "a", "1.5", "--1"]),
    "float": (r"[-+]?[0-9]*\.?[0-9]+[ \n]*", ["7", ".5", "-1.25 "], [".", "1."]),
    "boolean": (r"(True|False)", ["True", "False"], ["true", "TrueFalse", ""]),
    "string": (r"\"[\w\d\s]*\"", ['"a 1"', '""', '"é"'], ['"a.b"', "a"]),
    "slash": (r"a/b\/c", ["a/b/c"], [r"a/b\/c"]),
    "class with slash": (r"[/\\]x", ["/x", r"\x"], ["x"]),
    "anchored": (r"^ab$", ["ab"], ["aab", "^ab$"]),
    "line break": ("a\nb", ["a\nb"], ["ab"]),
    "quote": ('"x"', ['"x"'], ["x"]),
    "letters of every script": (r"\p{L}+", ["aé中"], ["1"]),
    "ignoring case": (r"(?i)ab", ["aB", "AB"], ["b"]),
}


@pytest.mark.parametrize(("pattern", "fitting", "others"), MATCHES.values(), ids=MATCHES.keys())
def test_a_regex_matches_the_whole_output(byte_bench, pattern, fitting, others):
    constraint = Constraint(kind="regex", body=pattern)
    grammar = byte_bench.grammar(constraint)
    for text in fitting:
        assert byte_bench.accepts(grammar, text), text
        assert check_output(constraint, text) is None
    for text in others:
        assert not byte_bench.accepts(grammar, text), text
        assert check_output(constraint, text) is not None


GRAMMARS = {
    "ebnf": ("ebnf", 'root ::= "(" root ")" | word\nword ::= [a-z]+'),
    "lark": ("lark", 'start: "(" start ")" | WORD\nWORD: /[a-z]+/'),
}


@pytest.mark.parametrize(("kind", "body"), GRAMMARS.values(), ids=GRAMMARS.keys())
def test_a_grammar_may_recurse(byte_bench, kind, body):
    grammar = byte_bench.grammar(Constraint(kind=kind, body=body))
    assert byte_bench.accepts(grammar, "((ab))")
    assert not byte_bench.accepts(grammar, "((ab)")
    assert not byte_bench.accepts(grammar, "()")


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("regex", "a(b", "unclosed group"),
        ("regex", "(?=a)b", "look-around"),
        ("ebnf", 'root ::= "a"\nx ::= (', "line 2"),
        ("ebnf", "root ::= nothing", '"nothing" is not defined'),
        ("lark", "start: x\nx: nothing", "2(4)"),
    ],
)
def test_an_error_shows_what_is_wrong_in_the_users_own_text(byte_bench, kind, body, message):
    with pytest.raises(ConstraintError) as caught:
        byte_bench.grammar(Constraint(kind=kind, body=body))
    text = str(caught.value)
    assert message in text
    assert "no_forcing" not in text
    assert "/project/" not in text
    assert "\n" not in text


REFUSED = {
    "look-ahead": (
        r"(?=a)b",
        "look-around, including look-ahead and look-behind, is not supported, at offset 0: '(?='",
    ),
    "back reference": (r"é(a)\1", "backreferences are not supported, at offset 4: '\\\\1'"),
    "group left open": ("a(b", "unclosed group, at offset 1: '('"),
    "after a line break": ("a\n(b", "unclosed group, at the part: '('"),
    "word boundary": (r"\bfoo\b", "lookarounds not supported yet; WordUnicode"),
}


@pytest.mark.parametrize(("pattern", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refused_regex_is_one_line_with_place_and_reason(byte_bench, pattern, reason):
    with pytest.raises(ConstraintError) as caught:
        byte_bench.grammar(Constraint(kind="regex", body=pattern))
    assert str(caught.value) == f"the regex {pattern!r} cannot be enforced: {reason}"


def test_a_regex_that_matches_nothing_is_refused_in_words(byte_bench):
    with pytest.raises(ConstraintError, match=r"allows no text at all: .*nothing can follow"):
        prove(
            byte_bench.grammar(Constraint(kind="regex", body=r"[^\s\S]")),
            byte_bench.toolkit.vocabulary.vocab_size,
            ProofLimits(),
        )
