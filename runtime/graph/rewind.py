"""Where a select begins: how far back the end of its prompt is tokenised anew with the choices.

"The answer is " followed by "yes" rarely has the ids of both put together. So each choice is
tokenised with the whole open text run before it, and what all of them share with the run's own ids
stays prompt; the rest is scored. Only the run is looked at: control tokens and generated ids before
it stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Rewound", "rewind"]


@dataclass(frozen=True, slots=True)
class Rewound:
    """`prompt` ids of the run stay, `num_rewound` of them do not, `choices` are scored after it."""

    prompt: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]
    num_rewound: int


def rewind(
    encode: Callable[[Sequence[str]], Sequence[Sequence[int]]], run: str, choices: Sequence[str]
) -> Rewound:
    """Raises UsageError for choices that the model could not tell apart."""
    for index, choice in enumerate(choices):
        if not choice:
            raise UsageError(f"choice {index} of select is empty; give it at least one character")
    prompt, *whole = encode([run, *(run + choice for choice in choices)])
    keep = min(_common_prefix(prompt, ids) for ids in whole)
    tails = tuple(tuple(ids[keep:]) for ids in whole)
    seen: dict[tuple[int, ...], int] = {}
    for index, tail in enumerate(tails):
        if not tail:
            raise UsageError(f"choice {choices[index]!r} of select adds no token to the prompt")
        if tail in seen:
            raise UsageError(
                f"choices {seen[tail]} and {index} of select have the same tokens: "
                f"{choices[index]!r}; leave one of them out"
            )
        seen[tail] = index
    return Rewound(tuple(prompt[:keep]), tails, len(prompt) - keep)


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    length = min(len(one), len(other))
    return next((i for i in range(length) if one[i] != other[i]), length)
