"""The trial run refuses what is slow to decode, by CPU time alone."""

from __future__ import annotations

import itertools

import pytest

from furcate.errors import ConstraintError
from furcate.protocol.constraint import Constraint
from furcate.runtime.constrain.proof import ProofLimits, prove

ENDLESS = Constraint(kind="regex", body="(a|b)*c")


def clock_of(step_durations_s):
    """Readings before and after each step; the last duration goes on."""
    now_s = 0.0
    last = step_durations_s[-1]
    for duration_s in itertools.chain(step_durations_s, itertools.repeat(last)):
        yield now_s
        now_s += duration_s
        yield now_s


def proved(bench, constraint, durations_s=(0.0,), **limits):
    readings = clock_of(durations_s)
    prove(bench.grammar(constraint), 300, ProofLimits(**limits), lambda: next(readings))


def test_a_quick_grammar_passes(byte_bench):
    proved(byte_bench, ENDLESS, [0.001])


def test_slow_first_steps_are_not_counted(byte_bench):
    proved(byte_bench, ENDLESS, [0.09, 0.09, 0.09, 0.09, 0.0])


def test_one_slow_step_is_forgiven_and_two_are_not(byte_bench):
    quick = [0.0] * 10
    proved(byte_bench, ENDLESS, [*quick, 0.06, *quick])
    with pytest.raises(ConstraintError, match="a step took 60 ms"):
        proved(byte_bench, ENDLESS, [*quick, 0.06, *quick, 0.06, 0.0])


def test_steps_that_are_slow_on_average_are_refused(byte_bench):
    with pytest.raises(ConstraintError, match=r"steps take 6\.0 ms on average"):
        proved(byte_bench, ENDLESS, [0.006])


def test_the_proof_itself_ends_in_time(byte_bench):
    proved(byte_bench, ENDLESS, [0.004], total_s=0.05)


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint(kind="ebnf", body="root ::= root"),
        Constraint(kind="lark", body="start: <[256]>"),
    ],
)
def test_a_grammar_that_allows_nothing_is_refused(byte_bench, constraint):
    with pytest.raises(ConstraintError, match="allows no text at all"):
        proved(byte_bench, constraint)


def test_the_empty_text_is_something(byte_bench):
    proved(byte_bench, Constraint(kind="ebnf", body='root ::= ""'))


def test_an_engine_that_gives_up_within_the_proof_refuses_the_grammar(byte_bench):
    bomb = Constraint(kind="regex", body="((a{1,1000}){1,1000}){1,1000}")
    with pytest.raises(ConstraintError, match="too complex to generate with"):
        proved(byte_bench, bomb)
