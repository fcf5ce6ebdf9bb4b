"""The executor over a model: forwards in order, and nothing kept of those that nobody collects."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import numpy as np

from furcate.runtime.engine.batch import ForwardBatch
from furcate.runtime.engine.executor import ModelExecutor, Score
from furcate.runtime.testing import ContextModel

if TYPE_CHECKING:
    import torch


class Watched(ContextModel):
    """Knows which of its logits are still held by somebody."""

    def __init__(self) -> None:
        super().__init__()
        self._given: list[weakref.ref[torch.Tensor]] = []

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        logits = super().forward(batch)
        self._given.append(weakref.ref(logits))
        return logits

    @property
    def num_held(self) -> int:
        gc.collect()
        return sum(each() is not None for each in self._given)


def token(token_id: int, position: int) -> ForwardBatch:
    return ForwardBatch(
        token_ids=np.array([token_id], np.int32),
        positions=np.array([position], np.int32),
        row_starts=np.array([0, 1], np.int32),
        kv_lens=np.array([position + 1], np.int32),
        page_table=np.array([[0]], np.int32),
        copies=(),
        logit_indices=np.array([0], np.int32),
    )


def test_two_forwards_in_flight_are_collected_in_order() -> None:
    executor = ModelExecutor(Watched(), 4, 16)
    first = executor.submit(token(65, 0), scores=[Score(0, 67)])
    second = executor.submit(token(66, 1), scores=[Score(0, 67)])
    assert (first, second) == (1, 2)
    scores = [executor.collect(seq).scores[0].logprob for seq in (first, second)]
    assert scores[0] != scores[1]


def test_logits_that_nobody_collected_are_let_go_with_the_next() -> None:
    model = Watched()
    executor = ModelExecutor(model, 4, 16)
    executor.submit(token(65, 0))
    second = executor.submit(token(66, 1))
    assert model.num_held == 2
    executor.collect(second)
    assert model.num_held == 0
