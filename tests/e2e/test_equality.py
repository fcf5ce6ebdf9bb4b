"""With a fixed seed a program says the same wherever and beside whatever it runs.

Whole programs of the examples, on the context model, whose output changes with any wrong page,
slot, length or order; then on SmolLM2, whose output changes with the arithmetic too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from examples import judge
from tests.e2e.demo import Server
from tests.examples.cases import CASES, Case, Outcome, outcome

import furcate as fc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SEED = 1_000
BATCH = 32
EACH_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)

# How an engine may be set up without a program noticing.
SETTINGS: dict[str, dict[str, int | bool]] = {
    "as it is": {},
    "a token a page": {"page_size": 1},
    "three rows and seven tokens a step": {"max_rows": 3, "budget_tokens": 7},
    "hardly any memory": {"kv_bytes": 40_000, "budget_tokens": 64},
    "without jump-forward": {"jump_forward": False},
    "a step at a time": {"overlap": False},
    "a step at a time, in pieces": {"overlap": False, "budget_tokens": 7},
}


def engine(**options: int | bool) -> fc.Session:
    return fc.Engine("test:context", **{"kv_bytes": 2**20, "threads": 1, **options})


def run(case: Case, backend: fc.Session) -> Outcome:
    return outcome(case, case.program.run(*case.args, seed=SEED, backend=backend))


@fc.function
def any_case(s: fc.ProgramState, case: Case, args: Sequence[Any]) -> Any:
    """The program of that case: its seeds follow from branches and nodes, not from its name."""
    return case.program.__wrapped__(s, *args)  # type: ignore[attr-defined]


def run_in_batch(case: Case, index: int, backend: fc.Session) -> Outcome:
    """The case as item `index` among 31 others: all the other programs, and itself otherwise."""
    items: list[tuple[Case, Sequence[Any]]] = []
    for place in range(BATCH):
        other = CASES[place % len(CASES)]
        items.append((other, other.others if place % 2 else other.args))
    items[index] = (case, case.args)
    states = any_case.run_batch(items, seed=SEED - index, backend=backend)  # seed + index: SEED
    return outcome(case, states[index])


@pytest.fixture(scope="module")
def alone() -> dict[str, Outcome]:
    """Each case on an engine that has never run anything."""
    found = {}
    for case in CASES:
        with engine() as fresh:
            found[case.name] = run(case, fresh)
    return found


@pytest.fixture(scope="module")
def used() -> Iterator[fc.Session]:
    with engine() as session:
        yield session


@pytest.fixture(scope="module")
def wire() -> Iterator[fc.Session]:
    with (
        Server("test:context", "--kv-bytes", "1MiB", "--threads", "1", start_s=60.0) as server,
        fc.connect(server.address) as session,
    ):
        yield session


@EACH_CASE
def test_warm_is_as_cold(case: Case, alone: dict[str, Outcome], used: fc.Session) -> None:
    assert run(case, used) == alone[case.name]
    assert run(case, used) == alone[case.name]  # all its prompt is in the cache now


@EACH_CASE
@pytest.mark.parametrize("index", [0, 17, 31])
def test_batched_with_31_others_is_as_alone(
    case: Case, index: int, alone: dict[str, Outcome], used: fc.Session
) -> None:
    assert run_in_batch(case, index, used) == alone[case.name]


@EACH_CASE
def test_over_the_wire_is_as_in_process(
    case: Case, alone: dict[str, Outcome], wire: fc.Session
) -> None:
    assert run(case, wire) == alone[case.name]
    assert run_in_batch(case, 9, wire) == alone[case.name]


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
def test_no_setting_of_the_engine_changes_a_program(
    options: dict[str, int | bool], alone: dict[str, Outcome]
) -> None:
    with engine(**options) as session:
        for index, case in enumerate(CASES):
            assert run_in_batch(case, 5 * index, session) == alone[case.name], case.name


def test_another_seed_says_something_else(alone: dict[str, Outcome], used: fc.Session) -> None:
    (case,) = (case for case in CASES if case.name == "tree_of_thought")
    other = case.program.run(*case.args, seed=SEED + 1, backend=used)
    assert outcome(case, other) != alone[case.name]


# On SmolLM2 ---------------------------------------------------------------------------------------


def count_on(s: fc.ProgramState, number: int) -> None:
    s += fc.user(f"Count on from {number}.")
    s += fc.assistant(fc.gen("count", max_tokens=6))


NEIGHBOUR = Case(judge, fc.function(count_on), (1,), (2,), ("count",))


@pytest.mark.smollm2
@pytest.mark.timeout(600)  # plain C++ takes minutes
def test_smollm2_says_the_same_alone_batched_and_warm() -> None:
    """All cases in one batch of 32, each with the seed that its place gives it."""
    items: list[tuple[Case, Sequence[Any]]] = [(NEIGHBOUR, (number,)) for number in range(BATCH)]
    places = {5 * index + 2: case for index, case in enumerate(CASES)}
    for place, case in places.items():
        items[place] = (case, case.args)

    def run_at(place: int, backend: fc.Session) -> Outcome:
        state = any_case.run(*items[place], seed=SEED + place, backend=backend)
        return outcome(items[place][0], state)

    with fc.Engine("smollm2", kv_bytes="128MiB") as session:
        alone = {place: run_at(place, session) for place in places}
        assert {place: run_at(place, session) for place in places} == alone  # warm
    with fc.Engine("smollm2", kv_bytes="128MiB") as session:
        states = any_case.run_batch(items, seed=SEED, backend=session)
        batched = {place: outcome(case, states[place]) for place, case in places.items()}
        assert batched == alone
