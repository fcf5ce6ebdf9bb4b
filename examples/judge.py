"""An article is judged in several dimensions at once, then as a whole; each verdict has a score.

The forks share the article, which is computed once. Run it with `furcate run examples/judge.py`.
"""

from __future__ import annotations

import furcate as fc

ARTICLE = (
    "Tides come from the pull of the moon. The water on the near side is drawn towards it, and on "
    "the far side it is left behind, so there are two high waters a day. When sun and moon pull in "
    "one line the tide is highest. Harbours keep tables of it, and fishermen live by them."
)
DIMENSIONS = {
    "content": "Is the substance right and to the point?",
    "structure": "Does one sentence lead to the next?",
    "clarity": "Would a child of twelve understand it?",
}
GRADES = ["poor", "fair", "good", "excellent"]


@fc.function
def judge(
    s: fc.ProgramState, article: str = ARTICLE, max_tokens: int = 24
) -> dict[str, dict[str, float]]:
    s += fc.system("You are a strict and impartial judge of texts.")
    s += fc.user("Article:\n" + article)
    forks = s.fork(over=DIMENSIONS.values())
    for fork, question in zip(forks, DIMENSIONS.values(), strict=True):
        fork += fc.user(question + " Give one sentence of reasons and a verdict.")
        fork += fc.assistant(
            fc.gen("why", max_tokens=max_tokens, stop="\n", temperature=0.0)
            + "\nVerdict: "
            + fc.select("verdict", GRADES, scores=True)
        )
    forks.join()
    s += fc.user("Notes of three judges:\n" + fc.join("\n", forks.refs("why")) + "\nYour verdict?")
    s += fc.assistant("Overall: " + fc.select("overall", GRADES, scores=True))
    scores = zip(DIMENSIONS, forks.scores("verdict"), strict=True)
    return {name: score.probabilities for name, score in scores}


def main(article: str = ARTICLE) -> dict[str, dict[str, float]]:
    state = judge.run(article)
    verdicts: dict[str, dict[str, float]] = state.ret_value
    for name, shares in (*verdicts.items(), ("overall", state.scores("overall").probabilities)):
        print(f"{name:<10}", "  ".join(f"{grade} {share:4.0%}" for grade, share in shares.items()))
    return verdicts


if __name__ == "__main__":
    main()
