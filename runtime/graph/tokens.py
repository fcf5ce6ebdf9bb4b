"""Tokens as a client sees them: with their text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.protocol.message import Alternative, ChoiceScores, TokenLogprob
from furcate.runtime.tokenize.detokenize import IncrementalDecoder

from .content import spell

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from furcate.protocol.stream import ChoiceResult, RawLogprob
    from furcate.runtime.tokenize.base import TextCodec

__all__ = ["GeneratedText", "choice_scores", "token_logprobs"]


class GeneratedText:
    """The text of one generation, as its ids arrive. Control tokens in it have no text."""

    def __init__(self, codec: TextCodec) -> None:
        self._table = codec.table
        self._decoder = IncrementalDecoder(self._table)
        self._parts: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def push(self, ids: Sequence[int]) -> str:
        # A model's logits may be wider than the tokenizer's table; such an id has no bytes.
        return self._add(self._decoder.push(i for i in ids if i < len(self._table)))

    def finish(self) -> str:
        return self._add(self._decoder.finish())

    def _add(self, text: str) -> str:
        self._parts.append(text)
        return text


def token_text(codec: TextCodec, token_id: int) -> str:
    return spell(codec, token_id).decode("utf-8", "replace")


def token_logprobs(codec: TextCodec, raw: Iterable[RawLogprob]) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(
            item.logprob,
            item.token_id,
            token_text(codec, item.token_id),
            tuple(Alternative(value, other, token_text(codec, other)) for value, other in item.top),
        )
        for item in raw
    )


def choice_scores(
    codec: TextCodec,
    choices: Sequence[Sequence[int]],
    result: ChoiceResult,
    num_rewound: int,
) -> ChoiceScores:
    """What a Choose found, each number beside the token that it belongs to."""

    def beside(numbers: Sequence[Sequence[float]]) -> tuple[tuple[TokenLogprob, ...], ...]:
        return tuple(
            tuple(
                TokenLogprob(value, token_id, token_text(codec, token_id))
                for value, token_id in zip(values, ids, strict=True)
            )
            for values, ids in zip(numbers, choices, strict=True)
        )

    unconditional = result.unconditional_token_logprobs
    return ChoiceScores(
        token_logprobs=beside(result.token_logprobs),
        normalized=result.normalized,
        probabilities=result.probabilities,
        label_mass=result.label_mass,
        num_rewound=num_rewound,
        greedy_logprob_matrix=result.greedy_logprob_matrix,
        unconditional_token_logprobs=None if unconditional is None else beside(unconditional),
        normalized_unconditional=result.normalized_unconditional,
    )
