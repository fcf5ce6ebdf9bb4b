"""`select`: the most likely of given choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from furcate.errors import UsageError

from ._expr import Expr
from ._output import TEXT, Output
from ._sampling import collect

if TYPE_CHECKING:
    from furcate.protocol.graph import ChoicesMethod

__all__ = [
    "SelectExpr",
    "build_select",
    "greedy_token_selection",
    "select",
    "token_length_normalized",
    "unconditional_likelihood_normalized",
]

token_length_normalized: Final = "token_length_normalized"
"""Takes the choice with the highest mean log-probability of its tokens."""
greedy_token_selection: Final = "greedy_token_selection"
"""Walks token by token, keeping at each the choices with the likeliest token."""
unconditional_likelihood_normalized: Final = "unconditional_likelihood_normalized"
"""Takes the choice that the context makes likelier than it is by itself, by mean
log-probability."""

_METHODS = (
    token_length_normalized,
    greedy_token_selection,
    unconditional_likelihood_normalized,
)


@dataclass(frozen=True, slots=True)
class SelectExpr(Expr):
    name: str | None
    choices: tuple[str, ...]
    temperature: float
    method: ChoicesMethod
    scores: bool = False
    output: Output = TEXT


def select(
    name: str | None = None,
    choices: Sequence[str] | None = None,
    temperature: float = 0.0,
    choices_method: ChoicesMethod = token_length_normalized,
    *,
    scores: bool = False,
) -> Expr:
    """Appends the best of `choices` and stores it as `name`.

    All choices are scored as continuations in one forward. `temperature` above 0 samples among
    them instead. `scores=True` keeps a probability for each: `state.scores(name)`.
    """
    return build_select(name, choices, temperature, choices_method, scores, TEXT)


def build_select(
    name: str | None,
    choices: Sequence[str] | None,
    temperature: float | None,
    method: str | None,
    scores: bool,
    output: Output,
) -> SelectExpr:
    """A checked SelectExpr; raises UsageError with the value."""
    check_name(name)
    if isinstance(choices, str) or not isinstance(choices, Sequence):
        raise UsageError(f"choices must be a list of strings, got {choices!r}")
    if not choices:
        raise UsageError("choices is empty: a select needs at least one string")
    for choice in choices:
        if not isinstance(choice, str) or not choice:
            raise UsageError(f"each choice must be a non-empty string, got {choice!r}")
    if len(set(choices)) != len(choices):
        twice = next(choice for choice in choices if list(choices).count(choice) > 1)
        raise UsageError(f"the choice {twice!r} occurs twice: choices must differ")
    method = token_length_normalized if method is None else method
    if method not in _METHODS:
        raise UsageError(f"choices_method must be one of {', '.join(_METHODS)}, got {method!r}")
    if not isinstance(scores, bool):
        raise UsageError(f"scores must be True or False, got {scores!r}")
    checked = collect({"temperature": temperature})
    return SelectExpr(
        name,
        tuple(choices),
        checked.get("temperature", 0.0),  # type: ignore[arg-type]
        method,  # type: ignore[arg-type]
        scores,
        output,
    )


def check_name(name: object) -> None:
    """A variable's name is a string, or None for a value that is not stored."""
    if name is not None and (not isinstance(name, str) or not name):
        raise UsageError(f"the name of a variable must be a non-empty string, got {name!r}")
