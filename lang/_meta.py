"""Meta data of values in the shape users know: lists of [logprob, token id, text]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import structs

from furcate.errors import UsageError
from furcate.protocol.message import ChoiceScores, TokenLogprob, ValueMeta

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._slot import Slot

__all__ = ["Scores", "meta_info", "scores_of"]

Token = list[object]


@dataclass(frozen=True, slots=True)
class Scores:
    """How likely each choice of a select was.

    `probabilities` sum to 1 over the choices; `label_mass` is how likely the model was to say any
    of them at all; `normalized` is what the method compared, and what decided. A long choice may
    win by its mean and still have a small probability. `scores["good"]` is a probability.
    """

    probabilities: dict[str, float]
    normalized: dict[str, float]
    label_mass: float

    def __getitem__(self, choice: str) -> float:
        return self.probabilities[choice]


def scores_of(slot: Slot) -> Scores:
    """Of a settled select that was recorded with scores=True."""
    scores = slot.meta.scores if slot.meta is not None else None
    if slot.choices is None or scores is None:
        raise UsageError(f"{slot.label} has no scores: use select(..., scores=True)")
    return Scores(
        dict(zip(slot.choices, scores.probabilities, strict=False)),
        dict(zip(slot.choices, scores.normalized, strict=False)),
        scores.label_mass,
    )


def meta_info(slot: Slot) -> dict[str, object]:
    """Of a value; one that is still being generated has no reason to have finished."""
    meta = slot.meta if slot.meta is not None else ValueMeta()
    thought = slot.reasoning.meta if slot.reasoning is not None else None
    # The answer's prompt has the reasoning in it; who pays by token asks for what came before both.
    first = thought.usage if thought is not None else meta.usage
    usage = meta.usage + thought.usage if thought is not None else meta.usage
    usage = structs.replace(usage, prompt=first.prompt)
    info: dict[str, object] = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "cached_tokens": first.reused,
        "finish_reason": _finish(meta) if slot.meta is not None else None,
        "usage": usage,
        "attempts": meta.attempts,
    }
    if slot.reasoning is not None:
        info["reasoning_tokens"] = thought.usage.completion if thought is not None else 0
    with_text = slot.report.with_text
    if meta.prompt_logprobs is not None or meta.logprobs is not None:
        prompt = (meta.prompt_logprobs or ())[slot.report.start :]
        info["input_token_logprobs"] = _tokens(prompt, with_text)
        info["input_top_logprobs"] = _tops(prompt, with_text)
    if meta.logprobs is not None:
        per_sample = [_tokens(tokens, with_text) for tokens in meta.logprobs]
        tops = [_tops(tokens, with_text) for tokens in meta.logprobs]
        info["output_token_logprobs"] = per_sample if slot.samples > 1 else per_sample[0]
        info["output_top_logprobs"] = tops if slot.samples > 1 else tops[0]
    if slot.samples > 1:
        info["finish_reasons"] = [{"type": finish} for finish in meta.finishes]
    if meta.scores is not None:
        info |= _choice_info(meta.scores)
    return info


def _finish(meta: ValueMeta) -> dict[str, object]:
    reason: dict[str, object] = {"type": meta.finish}
    if meta.matched is not None:
        reason["matched"] = meta.matched
    return reason


def _tokens(tokens: Sequence[TokenLogprob], with_text: bool) -> list[Token]:
    return [[t.logprob, t.token_id, t.text if with_text else None] for t in tokens]


def _tops(tokens: Sequence[TokenLogprob], with_text: bool) -> list[list[Token]]:
    return [
        [[top.logprob, top.token_id, top.text if with_text else None] for top in token.top]
        for token in tokens
    ]


def _choice_info(scores: ChoiceScores) -> dict[str, object]:
    info: dict[str, object] = {
        "normalized_prompt_logprobs": list(scores.normalized),
        "input_token_logprobs": [_tokens(tokens, True) for tokens in scores.token_logprobs],
        "probabilities": list(scores.probabilities),
        "label_mass": scores.label_mass,
        "num_rewound": scores.num_rewound,
    }
    if scores.greedy_logprob_matrix is not None:
        info["greedy_logprob_matrix"] = [list(row) for row in scores.greedy_logprob_matrix]
    if scores.unconditional_token_logprobs is not None:
        info["unconditional_token_logprobs"] = [
            _tokens(tokens, True) for tokens in scores.unconditional_token_logprobs
        ]
    if scores.normalized_unconditional is not None:
        info["normalized_unconditional_prompt_logprobs"] = list(scores.normalized_unconditional)
    return info
