"""Changes one row of logits before anything is drawn: bias, penalties, then mask and bans.

Works on a private copy of the row, in float32, element by element. Knows nothing of temperature,
filters or randomness.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.sampling import Sampling

    from .batch import SampleRow

__all__ = ["adjust", "is_adjusted", "reads_outputs"]


def is_adjusted(row: SampleRow) -> bool:
    """Whether `adjust` would change anything: if not, the row needs no copy."""
    sampling = row.sampling
    return bool(
        row.mask is not None or row.banned_ids or sampling.logit_bias or reads_outputs(sampling)
    )


def reads_outputs(sampling: Sampling) -> bool:
    """Whether a draw depends on the tokens before it, beyond the logits."""
    return _is_penalised(sampling) or sampling.repetition_penalty != 1.0


def adjust(logits: np.ndarray, row: SampleRow) -> None:
    """Edits `logits` [vocab_size] in place. What may not be drawn becomes -inf."""
    sampling = row.sampling
    for token_id, bias in sampling.logit_bias.items():
        if token_id < len(logits):
            logits[token_id] += np.float32(bias)
    if _is_penalised(sampling):
        _penalise_output(logits, row.output_ids, sampling)
    if sampling.repetition_penalty != 1.0:
        _penalise_repetition(logits, row.context_ids, sampling.repetition_penalty)
    if row.mask is not None:
        np.copyto(logits, np.float32(-np.inf), where=~allowed_ids(row.mask, len(logits)))
    for token_id in row.banned_ids:
        if token_id < len(logits):
            logits[token_id] = -np.inf


def allowed_ids(mask: np.ndarray, vocab_size: int) -> np.ndarray:
    """The bit set as bools [vocab_size]; ids past its end are not allowed."""
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little", count=vocab_size)
    return bits.view(np.bool_)


def _is_penalised(sampling: Sampling) -> bool:
    return sampling.frequency_penalty != 0.0 or sampling.presence_penalty != 0.0


def _penalise_output(logits: np.ndarray, output_ids: Sequence[int], sampling: Sampling) -> None:
    ids, counts = np.unique(np.asarray(output_ids, dtype=np.int64), return_counts=True)
    penalty = sampling.frequency_penalty * counts + sampling.presence_penalty
    logits[ids] -= penalty.astype(np.float32)


def _penalise_repetition(logits: np.ndarray, context_ids: Sequence[int], penalty: float) -> None:
    """Every token that has occurred becomes less likely, on whichever side of zero it stands."""
    ids = np.unique(np.asarray(context_ids, dtype=np.int64))
    seen = logits[ids]
    factor = np.float32(penalty)
    logits[ids] = np.where(seen > 0, seen / factor, seen * factor)
