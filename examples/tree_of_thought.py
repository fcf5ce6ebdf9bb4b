"""A tree of thought: plans fork into solutions, each solution is rated, the best one answers.

The whole tree is one message. No branch waits for another, all of them share the text that they
branched off from, and those that are not chosen are cancelled. Run it with
`furcate run examples/tree_of_thought.py`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

import furcate as fc

Number = Annotated[int, Field(ge=0, le=9999)]
QUESTION = "A baker sells 24 rolls in the morning and twice as many at noon. How many is that?"
RATINGS = ["1", "2", "3", "4", "5"]


@fc.function
def tree_of_thought(
    s: fc.ProgramState, question: str = QUESTION, width: int = 2, max_tokens: int = 32
) -> dict[str, object]:
    s += fc.system("You solve small problems of arithmetic.")
    s += fc.user("Propose a short plan, without any calculation. " + question)
    plans = s.fork(width)
    plans += fc.assistant(fc.gen("plan", max_tokens=max_tokens, temperature=0.8))

    def solve(plan: fc.ProgramState) -> fc.StateGroup:
        plan += fc.user("Carry out the plan and give the final number.")
        solutions = plan.fork(width)
        solutions += fc.assistant(fc.gen("solution", max_tokens=max_tokens, temperature=0.8))
        solutions += fc.user("Rate this solution from 1 to 5.")
        solutions += fc.assistant(fc.gen("rating", type=int, choices=RATINGS))
        return solutions

    leaves = plans.map(solve).flatten()
    best = leaves.best("rating")[0]
    best += fc.user("State the final number alone.")
    best += fc.assistant(fc.gen("final", type=Number, max_tokens=8, temperature=0.0))
    result: dict[str, object] = {name: best.ref(name) for name in ("plan", "solution", "final")}
    return result | {"ratings": leaves.refs("rating")}


def main(seed: int = 7) -> dict[str, object]:
    state = tree_of_thought.run(seed=seed)
    for name, value in state.ret_value.items():
        print(f"{name}: {value}")
    print(f"tokens: {state.usage.computed} computed, {state.usage.reused} reused")
    return dict(state.ret_value)


if __name__ == "__main__":
    main()
