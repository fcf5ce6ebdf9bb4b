"""What a `gen` says about the reasoning before its output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from furcate.errors import UsageError
from furcate.protocol.graph import Reasoning

from ._numbers import is_integer

if TYPE_CHECKING:
    from furcate.protocol.sampling import Sampling

__all__ = ["ReasoningOption", "Thinking", "reasoning_name", "thinking_of"]

ReasoningOption = bool | Literal["auto"] | tuple[str, str] | None

SUFFIX = "_reasoning_content"


@dataclass(frozen=True, slots=True)
class Thinking:
    """`markers` None: those of the model. `forced`: the section is there in any case."""

    markers: tuple[str, str] | None = None
    forced: bool = False
    max_tokens: int | None = None

    def node(self, value_id: int) -> Reasoning:
        begin, end = self.markers or (None, None)
        return Reasoning(value_id, begin, end, self.max_tokens, forced=self.forced)

    def fit(self, sampling: Sampling) -> None:
        if sampling.n > 1:
            raise UsageError(
                f"reasoning takes one output, not n={sampling.n} of them: fork, and reason in each"
            )


def thinking_of(reasoning: ReasoningOption, max_thinking: int | None) -> Thinking | None:
    """Raises UsageError for what means nothing."""
    if max_thinking is not None and not (is_integer(max_thinking) and max_thinking >= 0):
        raise UsageError(f"max_thinking must be a number of tokens from 0 on, got {max_thinking!r}")
    if reasoning is None or reasoning is False:
        if max_thinking is not None:
            raise UsageError(
                f'max_thinking={max_thinking} has no effect without reasoning: add reasoning="auto"'
            )
        return None
    if reasoning is True or reasoning == "auto":
        return Thinking(None, reasoning is True, max_thinking)
    if (
        isinstance(reasoning, tuple)
        and len(reasoning) == 2
        and all(isinstance(marker, str) and marker.strip() for marker in reasoning)
    ):
        return Thinking(reasoning, False, max_thinking)
    raise UsageError(
        'reasoning must be "auto", True, False or the two markers, such as '
        f'("<think>", "</think>"), got {reasoning!r}'
    )


def reasoning_name(name: str | None) -> str | None:
    """The variable of what was thought before the output `name`."""
    return None if name is None else name + SUFFIX
