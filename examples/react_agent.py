"""An agent in a loop: a thought, an action that a regular expression keeps well-formed, the result.

The tools are plain Python functions and run here, not where the model is. Run it with
`furcate run examples/react_agent.py`.
"""

import furcate as fc

POPULATION = {"Lisbon": 567_000, "Porto": 248_000, "Braga": 193_000}
FINISH = r"finish\[[0-9]{1,7}\]"
ACTION = r"(population\[(Lisbon|Porto|Braga)\]|add\[[0-9]{1,7}, [0-9]{1,7}\]|" + FINISH + ")"
QUESTION = "How many people live in Lisbon and Porto together?"
SHOWN = """Question: How many people live in Faro and Coimbra together?
Thought: I need the population of Faro.
Action: population[Faro]
Result: 64000
Thought: I need the population of Coimbra.
Action: population[Coimbra]
Result: 141000
Thought: I add both numbers, 64000 and 141000.
Action: add[64000, 141000]
Result: 205000
Thought: The sum is the answer.
Action: finish[205000]
"""


def use_tool(action: str) -> str:
    """The result of one action of the form that ACTION describes, but `finish`."""
    name, _, argument = action.rstrip("]").partition("[")
    if name == "population":
        return str(POPULATION[argument])
    return str(sum(int(number) for number in argument.split(", ")))


@fc.function
def react(s: fc.ProgramState, question: str = QUESTION, max_steps: int = 4) -> list[str]:
    """The actions; the last one is `finish`, for the last step allows nothing else."""
    s += SHOWN + f"\nQuestion: {question}\n"
    actions: list[str] = []
    for step in range(max_steps):
        allowed = ACTION if step + 1 < max_steps else FINISH
        s += "Thought:" + fc.gen(f"thought_{step}", max_tokens=24, stop="\n")
        s += "\nAction: " + fc.gen(f"action_{step}", regex=allowed, max_tokens=32)
        actions.append(s[f"action_{step}"])  # waits: what comes next depends on it
        if actions[-1].startswith("finish"):
            break
        s += f"\nResult: {use_tool(actions[-1])}\n"
    return actions


def main() -> list[str]:
    state = react.run(temperature=0.0)
    print(state.text().removeprefix(SHOWN))
    return list(state.ret_value)


if __name__ == "__main__":
    main()
