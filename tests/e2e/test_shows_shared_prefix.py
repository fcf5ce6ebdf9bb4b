"""A hundred programs behind one prefix, over the wire, and a thousand: what they have in common is
computed once, and they travel together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.bench.unique import count_unique
from tests.e2e.demo import Server

import furcate as fc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

NUM_PROGRAMS = 100
MOST_COMPUTED = 1.01  # of the tokens that are different
MOST_MESSAGES = 2
MOST_BYTES = 25_000  # the prefix and 60 bytes a node, of which each program has two

RULE = "Rule {number}: whatever is left on the pier after sunset belongs to the harbour master.\n"
PREFIX = "".join(RULE.format(number=number) for number in range(12))


@fc.function
def ask(s: fc.ProgramState, number: int) -> None:
    s += PREFIX + f"\nBoat {number} has left a rope. Whose is it? "
    s += fc.gen("answer", max_tokens=16, ignore_eos=True)


@pytest.fixture
def wire() -> Iterator[fc.Session]:
    with (
        Server("test:context", "--threads", "1", start_s=60.0) as server,
        fc.connect(server.address) as session,
    ):
        yield session


def test_unique_tokens_are_counted_by_their_trie() -> None:
    assert count_unique([b"abc", b"abd", b"x", b"abc"]) == 5
    assert count_unique([]) == 0


def test_a_hundred_programs_compute_their_prefix_once_and_come_in_two_messages(
    wire: fc.Session,
) -> None:
    assert 900 <= len(PREFIX) <= 1_100  # a token is a byte here
    states = ask.run_batch([(n,) for n in range(NUM_PROGRAMS)], backend=wire, temperature=0.0)
    assert wire.num_messages <= MOST_MESSAGES
    assert wire.num_bytes_sent is not None
    assert wire.num_bytes_sent <= MOST_BYTES
    check_computed(states)


def test_a_thousand_programs_compute_hardly_a_token_twice(wire: fc.Session) -> None:
    states = ask.run_batch([(n,) for n in range(1_000)], backend=wire, temperature=0.0)
    check_computed(states)


def check_computed(states: Sequence[fc.ProgramState]) -> None:
    count = len(states)
    prompts = [PREFIX + f"\nBoat {n} has left a rope. Whose is it? " for n in range(count)]
    answers = [state["answer"] for state in states]
    # Nothing is ever predicted from the last token of an answer, so it is not computed.
    texts = [(p + a).encode()[:-1] for p, a in zip(prompts, answers, strict=True)]
    usage = sum((state.usage for state in states[1:]), states[0].usage)
    assert usage.completion == count * 16
    assert usage.computed <= MOST_COMPUTED * count_unique(texts)
    assert usage.computed >= count_unique(texts)
