"""Reviews are sorted by a few examples and a `select`: the examples are computed once for all.

Run it with `furcate run examples/few_shot_select.py`.
"""

from __future__ import annotations

import furcate as fc

LABELS = ["positive", "negative"]
EXAMPLES = [
    ("The soup was hot, the staff kind, and we will be back.", "positive"),
    ("The guide was rude and the bus broke down twice.", "negative"),
    ("An hour of waiting for cold noodles. Never again.", "negative"),
    ("The boat trip was the best part of our holiday.", "positive"),
    ("It stopped working after two days.", "negative"),
    ("A wonderful gift, my sister was so happy.", "positive"),
]
REVIEWS = [
    "Everything worked at once, and the battery lasts for days.",
    "It broke after a week and nobody answers my letters.",
    "The handle fell off the first time I used it.",
    "My children love it and so do I.",
    "The colours faded in the first wash. A waste of money.",
]


@fc.function
def classify(s: fc.ProgramState, review: str) -> None:
    s += "Each review is positive or negative.\n\n"
    for text, label in EXAMPLES:
        s += f"Review: {text}\nOpinion: {label}\n\n"
    s += f"Review: {review}\nOpinion: "
    s += fc.select("label", LABELS, scores=True)


def main(reviews: list[str] = REVIEWS) -> list[str]:
    states = classify.run_batch([(review,) for review in reviews])
    for state, review in zip(states, reviews, strict=True):
        label = state["label"]
        print(f"{label:<9} {state.scores('label')[label]:4.0%}  {review}")
    return [state["label"] for state in states]


if __name__ == "__main__":
    main()
