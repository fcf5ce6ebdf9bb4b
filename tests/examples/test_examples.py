"""Each example runs as it stands on a model without weights; its first item runs on SmolLM2."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from examples import extract_json, few_shot_select, judge, multi_turn, react_agent, tree_of_thought
from tests.examples.cases import CASES, Case

if TYPE_CHECKING:
    import furcate as fc

FOLDER = Path(extract_json.__file__).parent
PROGRAMS = sorted(FOLDER.glob("*.py"))


# What an example is -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_an_example_is_short_says_how_to_run_it_and_does_nothing_on_import(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") < 60
    tree = ast.parse(text)
    assert (ast.get_docstring(tree) or "").strip()
    guard = tree.body[-1]
    assert isinstance(guard, ast.If)
    assert ast.unparse(guard.test) == "__name__ == '__main__'"


def test_every_example_is_a_case() -> None:
    assert sorted(case.name for case in CASES) == [path.stem for path in PROGRAMS]


def test_there_are_twenty_different_emails() -> None:
    assert len(set(extract_json.EMAILS)) == 20


def test_no_ticket_can_be_longer_than_its_token_limit() -> None:
    two_words = "x" * 12 + " " + "x" * 12
    longest = extract_json.Ticket(
        customer=two_words.replace("x" * 12, "A" + "x" * 11),
        product=two_words,
        category="delivery",
        urgency="medium",
        wants_refund=False,
    )
    text = longest.model_dump_json()
    around = len(re.findall(r'[{}:,]|"[^"]*"|false', text))  # a blank may follow each of these
    assert len(text) + around < extract_json.MAX_TOKENS
    schema = json.dumps(extract_json.Ticket.model_json_schema())
    for choice in re.findall(r'"enum": (\[.*?\])', schema):
        assert max(map(len, json.loads(choice))) <= len("delivery")


def test_tools_of_the_agent_compute() -> None:
    assert react_agent.use_tool("population[Porto]") == "248000"
    assert react_agent.use_tool("add[567000, 248000]") == "815000"


# On the context model -----------------------------------------------------------------------------


@pytest.mark.slow
def test_extract_json_prints_twenty_typed_tickets(
    default_context: fc.Session, capsys: pytest.CaptureFixture[str]
) -> None:
    tickets = extract_json.main()
    printed = capsys.readouterr().out
    assert len(tickets) == 20
    assert all(type(ticket) is extract_json.Ticket for ticket in tickets)
    assert printed.count("\n") == 21
    assert all(ticket.customer in printed for ticket in tickets)
    assert "20 valid tickets of 20 e-mails" in printed
    assert re.search(r"[1-9]\d* reused, \d+ same_step, [1-9]\d* forced, [1-9]\d* decoded", printed)


def test_few_shot_select_labels_each_review(
    default_context: fc.Session, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = few_shot_select.main()
    assert len(labels) == len(few_shot_select.REVIEWS)
    assert set(labels) <= set(few_shot_select.LABELS)
    assert capsys.readouterr().out.count("\n") == len(labels)


@pytest.mark.slow
def test_tree_of_thought_follows_its_best_leaf(
    default_context: fc.Session, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tree_of_thought.main()
    assert list(result) == ["plan", "solution", "final", "ratings"]
    assert isinstance(result["final"], int)
    ratings = result["ratings"]
    assert isinstance(ratings, list)
    assert len(ratings) == 4
    assert all(1 <= rating <= 5 for rating in ratings)
    assert tree_of_thought.main() == result  # it is seeded
    assert f"final: {result['final']}" in capsys.readouterr().out


@pytest.mark.slow
def test_react_agent_takes_allowed_actions_and_ends_with_finish(
    default_context: fc.Session, capsys: pytest.CaptureFixture[str]
) -> None:
    actions = react_agent.main()
    assert 1 <= len(actions) <= 4
    assert all(re.fullmatch(react_agent.ACTION, action) for action in actions)
    assert [a.startswith("finish") for a in actions] == [False] * (len(actions) - 1) + [True]
    printed = capsys.readouterr().out
    for action in actions[:-1]:
        assert f"Action: {action}\nResult: {react_agent.use_tool(action)}\n" in printed


def test_multi_turn_alternates_and_answers_every_question(default_context: fc.Session) -> None:
    turns = multi_turn.main()
    assert [role for role, _ in turns] == ["system"] + ["user", "assistant"] * 3
    assert [text for role, text in turns if role == "user"] == multi_turn.QUESTIONS
    assert all(text for role, text in turns if role == "assistant")


def test_judge_gives_a_distribution_for_each_dimension(
    default_context: fc.Session, capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts = judge.main()
    assert list(verdicts) == list(judge.DIMENSIONS)
    for shares in verdicts.values():
        assert list(shares) == judge.GRADES
        assert sum(shares.values()) == pytest.approx(1.0)
    assert capsys.readouterr().out.count("\n") == len(verdicts) + 1


# On SmolLM2 ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.smollm2
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_first_item_of_each_example_runs_on_smollm2(case: Case, smollm2: fc.Session) -> None:
    state = case.program.run(*case.args, seed=7, backend=smollm2, **case.sampling)
    assert all(name in state for name in case.names)
    assert state.usage.decoded > 0 or case.name == "few_shot_select"
    assert state.text()
