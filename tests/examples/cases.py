"""The examples as cases: each program with its first item and what its run has to show for itself.

Shared by the tests of the examples and the tests of equality. Knows no backend.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from examples import extract_json, few_shot_select, judge, multi_turn, react_agent, tree_of_thought

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    import furcate as fc

__all__ = ["CASES", "Case", "Outcome", "outcome"]


@dataclass(frozen=True)
class Case:
    """One program of an example. `others` are arguments that differ from `args`."""

    module: ModuleType
    program: fc.Function[..., Any]
    args: tuple[Any, ...]
    others: tuple[Any, ...]
    names: tuple[str, ...]  # variables that every run sets
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.module.__name__.rpartition(".")[2]


CASES = (
    Case(
        extract_json,
        extract_json.extract,
        (extract_json.EMAILS[0],),
        (extract_json.EMAILS[1],),
        ("ticket",),
    ),
    Case(
        few_shot_select,
        few_shot_select.classify,
        (few_shot_select.REVIEWS[0],),
        (few_shot_select.REVIEWS[1],),
        ("label",),
    ),
    Case(tree_of_thought, tree_of_thought.tree_of_thought, (), ("What is 3 times 14?",), ()),
    Case(
        react_agent,
        react_agent.react,
        (),
        ("How many people live in Braga and Porto together?",),
        ("thought_0", "action_0"),
    ),
    Case(
        multi_turn,
        multi_turn.multi_turn,
        (multi_turn.QUESTIONS,),
        (["What is the capital of Peru?", "How old is it?"],),
        ("answer_0", "answer_1"),
    ),
    Case(judge, judge.judge, (), ("Bread is flour, water and time.",), ("why", "overall")),
)


@dataclass(frozen=True)
class Outcome:
    """What a user can see of a finished program, but its token counts."""

    text: str
    returned: str
    variables: str


def outcome(case: Case, state: fc.ProgramState) -> Outcome:
    variables = {name: state[name] for name in case.names}
    return Outcome(state.text(), repr(state.ret_value), repr(variables))
