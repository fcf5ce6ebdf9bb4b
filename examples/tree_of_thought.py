"""A tree of thought: plans fork into solutions, each solution is rated, the best one answers.

No branch waits for another, and all of them share the text that they branched off from. Run it with
`furcate run examples/tree_of_thought.py`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

import furcate as fc

Number = Annotated[int, Field(ge=0, le=9999)]
QUESTION = "A baker sells 24 rolls in the morning and twice as many at noon. How many is that?"
RATINGS = ["1", "2", "3", "4", "5"]


def rating(leaf: fc.ProgramState) -> float:
    """The expected rating over all five, which ties less often than the likeliest one does."""
    return sum(int(text) * share for text, share in leaf.scores("rating").probabilities.items())


@fc.function
def tree_of_thought(
    s: fc.ProgramState, question: str = QUESTION, width: int = 2, max_tokens: int = 32
) -> dict[str, object]:
    s += fc.system("You solve small problems of arithmetic.")
    s += fc.user("Propose a short plan, without any calculation. " + question)
    plans = s.fork(width)
    plans += fc.assistant(fc.gen("plan", max_tokens=max_tokens, temperature=0.8))
    leaves: list[fc.ProgramState] = []
    for plan in plans:
        plan += fc.user("Carry out the plan and give the final number.")
        solutions = plan.fork(width)
        solutions += fc.assistant(fc.gen("solution", max_tokens=max_tokens, temperature=0.8))
        solutions += fc.user("Rate this solution from 1 to 5.")
        solutions += fc.assistant(fc.select("rating", RATINGS, scores=True))
        leaves += solutions
    best = max(leaves, key=rating)
    best += fc.user("State the final number alone.")
    best += fc.assistant(fc.gen("final", type=Number, max_tokens=8, temperature=0.0))
    result: dict[str, object] = {name: best[name] for name in ("plan", "solution", "final")}
    return result | {"ratings": [round(rating(leaf), 2) for leaf in leaves]}


def main(seed: int = 7) -> dict[str, object]:
    state = tree_of_thought.run(seed=seed)
    for name, value in state.ret_value.items():
        print(f"{name}: {value}")
    print(f"tokens: {state.usage.computed} computed, {state.usage.reused} reused")
    return dict(state.ret_value)


if __name__ == "__main__":
    main()
