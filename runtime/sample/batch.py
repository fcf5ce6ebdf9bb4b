"""What the sampler reads and gives back: one entry for each row of logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from furcate.protocol.sampling import Sampling

__all__ = ["Alternatives", "SampleRow", "Sampled"]


@dataclass(slots=True)
class SampleRow:
    """How to draw one token from one row of logits.

    `seed` and `index` (the ordinal of the token in its generation) alone decide the random number,
    so a draw depends on nothing else that runs. `output_ids` are the tokens generated so far in
    this generation, `context_ids` all tokens before the row (read for repetition_penalty only);
    both are views, not copies. `mask` is a bit set of the allowed ids, little-endian in int32
    words, or None. `banned_ids` may not be drawn (ends before min_tokens). `num_logprobs` as in
    Sampling.logprobs.
    """

    sampling: Sampling
    seed: int
    index: int
    output_ids: Sequence[int]
    context_ids: Sequence[int]
    mask: np.ndarray | None  # int32 [ceil(vocab_size / 32)]
    banned_ids: tuple[int, ...] = ()
    num_logprobs: int | None = None


class Alternatives(NamedTuple):
    """Log-probabilities of one token: its own, and the `num_logprobs` likeliest at its place, best
    first. They are those of the model: before bias, penalties, masks and temperature."""

    logprob: float
    top: tuple[tuple[int, float], ...]


class Sampled(NamedTuple):
    """One drawn token. `token_id` is None where the mask and the banned ids leave nothing to draw,
    and where the model's logits `are_broken`: their largest is not a finite number."""

    token_id: int | None
    logprobs: Alternatives | None
    are_broken: bool = False
