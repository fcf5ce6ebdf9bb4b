"""The workloads that are programs: many calls over shared text, with forks, choices and tools.

Lengths are fixed (the end of the sequence is ignored), so that every engine does the same work.
Knows nothing of how they are run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import furcate as fc

from .corpus import Corpus

if TYPE_CHECKING:
    from collections.abc import Callable

    from furcate.runtime.tokenize.base import TextCodec

__all__ = ["PROGRAM_WORKLOADS", "ProgramWorkload"]

RATINGS = ["1", "2", "3", "4", "5"]
GRADES = ["poor", "fair", "good", "excellent"]
DIMENSIONS = ["content", "structure", "clarity", "style"]
ACTION = r"(search|look|add)\[[a-z]{1,8}\]"
STEPS = 10


@fc.function
def tree(s: fc.ProgramState, question: str) -> str:
    """Three plans, two solutions of each, a rating of every solution, the best one continued."""
    s += fc.user("Propose a plan. Question: " + question)
    plans = s.fork(3)
    plans += fc.assistant(fc.gen("plan", max_tokens=32, temperature=0.8, ignore_eos=True))
    leaves: list[fc.ProgramState] = []
    for plan in plans:
        plan += fc.user("Carry out the plan step by step.")
        solutions = plan.fork(2)
        solutions += fc.assistant(
            fc.gen("solution", max_tokens=48, temperature=0.8, ignore_eos=True)
        )
        solutions += fc.user("Rate this solution from 1 to 5.")
        solutions += fc.assistant(fc.select("rating", RATINGS))
        leaves += solutions
    best = max(leaves, key=lambda leaf: str(leaf["rating"]))
    best += fc.user("Now state only the final answer.")
    best += fc.assistant(fc.gen("final", max_tokens=16, temperature=0.0, ignore_eos=True))
    return str(best["final"])


@fc.function
def judge(s: fc.ProgramState, article: str) -> list[str]:
    """Reasons and a verdict in four dimensions, then one on the whole."""
    s += fc.system("You are a strict, impartial judge.")
    s += fc.user("Article:\n" + article)
    forks = s.fork(over=DIMENSIONS)
    forks += lambda i: fc.user(f"Judge the {DIMENSIONS[i]}: reasons, then a verdict.")
    forks += fc.assistant(
        fc.gen("why", max_tokens=32, temperature=0.0, ignore_eos=True)
        + "\nVerdict: "
        + fc.select("verdict", GRADES)
    )
    forks.join()
    s += fc.user("Notes:\n" + fc.join("\n", forks.refs("why")) + "\nOverall?")
    s += fc.assistant(fc.select("overall", GRADES))
    return [*(str(fork["verdict"]) for fork in forks), str(s["overall"])]


@fc.function
def react(s: fc.ProgramState, rules: str, results: list[str]) -> list[str]:
    """Ten steps of thought and action; the tools' results are given, but each is waited for."""
    s += fc.system("Use the tools.\n" + rules)
    s += fc.user("Find out what the rules are about.")
    actions = []
    for step, result in enumerate(results):
        with s.assistant():
            s += fc.gen(f"thought_{step}", max_tokens=24, temperature=0.0, ignore_eos=True)
            s += "\n" + fc.gen(f"action_{step}", regex=ACTION, max_tokens=16, temperature=0.0)
        actions.append(str(s[f"action_{step}"]))
        s += fc.user("Result: " + result)
    return actions


@fc.function
def chat(s: fc.ProgramState, questions: list[str]) -> list[fc.Ref]:
    """Three turns, sent at once."""
    s += fc.system("You are a helpful assistant.")
    for number, question in enumerate(questions):
        s += fc.user(question)
        s += fc.assistant(
            fc.gen(f"answer_{number}", max_tokens=48, temperature=0.0, ignore_eos=True)
        )
    return [s.ref(f"answer_{number}") for number in range(len(questions))]


@dataclass(frozen=True, slots=True)
class ProgramWorkload:
    """`make` draws the arguments of one run."""

    name: str
    program: fc.Function[..., Any]
    num_programs: int
    make: Callable[[Corpus], tuple[Any, ...]]

    def items(self, codec: TextCodec, seed: int, scale: float = 1.0) -> list[tuple[Any, ...]]:
        corpus = Corpus(codec, seed)
        return [self.make(corpus) for _ in range(max(1, round(self.num_programs * scale)))]


PROGRAM_WORKLOADS = (
    ProgramWorkload("tree", tree, 6, lambda corpus: (corpus.text(96),)),
    ProgramWorkload("judge", judge, 8, lambda corpus: (corpus.text(256),)),
    ProgramWorkload(
        "react",
        react,
        4,
        lambda corpus: (corpus.text(768), [corpus.text(32) for _ in range(STEPS)]),
    ),
    ProgramWorkload("chat", chat, 16, lambda corpus: ([corpus.text(64) for _ in range(3)],)),
)
