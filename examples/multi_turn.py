"""A conversation of several turns: one recording, and the model never reads a turn twice.

Run it with `furcate run examples/multi_turn.py`.
"""

from __future__ import annotations

import furcate as fc

QUESTIONS = [
    "What is the capital of France?",
    "Which river flows through it?",
    "Name one bridge across that river.",
]


@fc.function
def multi_turn(s: fc.ProgramState, questions: list[str], max_tokens: int = 32) -> None:
    s += fc.system("You are a helpful guide. Answer in one short sentence.")
    for number, question in enumerate(questions):
        s += fc.user(question)
        s += fc.assistant(fc.gen(f"answer_{number}", max_tokens=max_tokens))


def main(questions: list[str] = QUESTIONS) -> list[tuple[str, str]]:
    state = multi_turn.run(questions, temperature=0.0)
    turns = [(turn["role"], turn["content"]) for turn in state.messages()]
    for role, content in turns:
        print(f"{role:>9}: {content}")
    print(f"tokens: {state.usage.computed} computed, {state.usage.decoded} of them decoded")
    return turns


if __name__ == "__main__":
    main()
