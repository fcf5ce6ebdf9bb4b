"""Draws tokens with the native kernel: rows become records of it, and its results samples.

The same draws as Sampler's, see `kernels/sample`. `pack` and `unpack` are on the path of every
step, so they avoid one numpy call a row; what needs arrays is made for rows with penalties, bias or
masks alone. Does not know streams, grammars or stop conditions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from furcate.kernels.sample.native import (
    PACK_SAMPLE_ROW,
    SAMPLE_ROW,
    SCORE_ROW,
    SampleKernel,
    SampleResults,
    SampleStatus,
    ScoreResults,
)

from .batch import Alternatives, Sampled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.kernels.library import Library, Pool
    from furcate.protocol.sampling import Sampling

    from .batch import SampleRow

__all__ = ["NativeSampler", "PackedDraws"]

WORD = 2**64 - 1
ROW_BYTES = PACK_SAMPLE_ROW.size
GREEDY = PACK_SAMPLE_ROW.pack(0, 0, 0.0, 1.0, *[0.0] * 3, 1.0, -1, *[0] * 12)


class PackedDraws(NamedTuple):
    """Records of draws and scores. `pointees` are the arrays that records point to: they stay alive
    and as they are until the results are there."""

    rows: np.ndarray  # SAMPLE_ROW [n]
    scores: np.ndarray  # SCORE_ROW [m]
    num_tops: list[int]  # of the draws; -1 where no log-probability is wanted
    pointees: list[np.ndarray]


class _Pointees:
    """Arrays that records point to. An address and a number of elements; nothing is (0, 0)."""

    def __init__(self, num_mask_words: int) -> None:
        self.kept: list[np.ndarray] = []
        self._num_mask_words = num_mask_words

    def mask(self, mask: np.ndarray | None) -> int:
        """Ids past the end of a mask are not allowed."""
        if mask is None:
            return 0
        if len(mask) < self._num_mask_words:
            mask = np.pad(mask, (0, self._num_mask_words - len(mask)))
        self.kept.append(mask)
        return int(mask.__array_interface__["data"][0])

    def ids(self, ids: Sequence[int]) -> tuple[int, int]:
        """A copy: the caller's sequence grows while a step is under way."""
        return self._array(np.array(ids, np.int32)) if len(ids) else (0, 0)

    def bias(self, bias: dict[int, float]) -> tuple[int, int, int]:
        if not bias:
            return 0, 0, 0
        ids, count = self.ids(tuple(bias))
        values, _ = self._array(np.fromiter(bias.values(), np.float32, count))
        return ids, values, count

    def _array(self, array: np.ndarray) -> tuple[int, int]:
        self.kept.append(array)
        return int(array.__array_interface__["data"][0]), len(array)


class NativeSampler:
    """Keeps nothing from call to call. One `run` at a time, as the pool's."""

    def __init__(self, library: Library, pool: Pool, vocab_size: int) -> None:
        self._kernel = SampleKernel(library, pool)
        self._num_mask_words = -(-vocab_size // 32)

    def pack(
        self,
        draws: Sequence[tuple[int, SampleRow]],
        scores: Sequence[tuple[int, int, int]] = (),
    ) -> PackedDraws:
        """Draws are pairs of a row of logits and how to draw from it; scores triples of a row of
        logits, a token id and the number of likeliest ids."""
        rows = bytearray(GREEDY * len(draws))
        pointees = _Pointees(self._num_mask_words)
        num_tops = []
        plain: Sampling | None = None  # the latest one of which a greedy row needs no parameter
        for n, (logit, row) in enumerate(draws):
            top = row.num_logprobs
            num_tops.append(-1 if top is None else top)
            if row.mask is None and top is None and not row.banned_ids:
                if row.sampling is plain:
                    continue
                if _is_plain(row.sampling):
                    plain = row.sampling
                    continue
            _pack_row(rows, n * ROW_BYTES, logit, row, pointees)
        records = np.frombuffer(rows, SAMPLE_ROW)
        records["logit"] = [logit for logit, _ in draws]
        return PackedDraws(records, np.array(list(scores), SCORE_ROW), num_tops, pointees.kept)

    def run(self, logits: np.ndarray, packed: PackedDraws) -> tuple[SampleResults, ScoreResults]:
        """Computes all of it, from float32 [L, vocab_size]."""
        return self._kernel.sample(logits, packed.rows), self._kernel.score(logits, packed.scores)

    @staticmethod
    def unpack_draws(packed: PackedDraws, drawn: SampleResults) -> list[Sampled]:
        """What Sampler.sample gives, in the order of the packed draws."""
        statuses = drawn.results["status"].tolist()
        tokens = drawn.results["token_id"].tolist()
        sampled = [
            Sampled(token, None)
            if status == SampleStatus.DRAWN
            else Sampled(None, None, status == SampleStatus.BROKEN_LOGITS)
            for token, status in zip(tokens, statuses, strict=True)
        ]
        if max(packed.num_tops, default=-1) >= 0:
            answers = _alternatives(packed.num_tops, drawn.results["logprob"], drawn)
            for n, answer in enumerate(answers):
                if packed.num_tops[n] >= 0 and statuses[n] == SampleStatus.DRAWN:
                    sampled[n] = Sampled(tokens[n], answer)
        return sampled

    @staticmethod
    def unpack_scores(packed: PackedDraws, scored: ScoreResults) -> list[Alternatives]:
        """What log_probs gives, in the order of the packed scores."""
        return _alternatives(packed.scores["num_top"].tolist(), scored.logprobs, scored)


def _is_plain(sampling: Sampling) -> bool:
    """Whether a draw needs nothing but the largest logit."""
    return (
        sampling.temperature == 0.0
        and not sampling.logit_bias
        and sampling.frequency_penalty == 0.0
        and sampling.presence_penalty == 0.0
        and sampling.repetition_penalty == 1.0
    )


def _pack_row(
    rows: bytearray, offset: int, logit: int, row: SampleRow, pointees: _Pointees
) -> None:
    sampling = row.sampling
    output, num_output = 0, 0
    if sampling.frequency_penalty != 0.0 or sampling.presence_penalty != 0.0:
        output, num_output = pointees.ids(row.output_ids)
    context, num_context = 0, 0
    if sampling.repetition_penalty != 1.0:
        context, num_context = pointees.ids(row.context_ids)
    banned, num_banned = pointees.ids(row.banned_ids) if row.banned_ids else (0, 0)
    bias_ids, bias_values, num_bias = pointees.bias(sampling.logit_bias)
    PACK_SAMPLE_ROW.pack_into(
        rows,
        offset,
        logit,
        max(sampling.top_k, 0),
        sampling.temperature,
        sampling.top_p,
        sampling.min_p,
        sampling.frequency_penalty,
        sampling.presence_penalty,
        sampling.repetition_penalty,
        -1 if row.num_logprobs is None else row.num_logprobs,
        row.seed & WORD,
        row.index & WORD,
        pointees.mask(row.mask),
        output,
        context,
        banned,
        bias_ids,
        bias_values,
        num_output,
        num_context,
        num_banned,
        num_bias,
    )


def _alternatives(
    num_tops: list[int], logprobs: np.ndarray, found: SampleResults | ScoreResults
) -> list[Alternatives]:
    rows = zip(
        num_tops,
        logprobs.tolist(),
        found.top_ids.tolist(),
        found.top_logprobs.tolist(),
        strict=True,
    )
    answers = []
    for num_top, logprob, ids, tops in rows:
        asked = zip(ids[: max(num_top, 0)], tops, strict=False)
        answers.append(Alternatives(logprob, tuple(pair for pair in asked if pair[0] >= 0)))
    return answers
