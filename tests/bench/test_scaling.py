"""The benchmark of waiting streams runs at tiny scale; no figure decides."""

from __future__ import annotations

import pytest
from tests.bench.scaling import Crowd, measure


@pytest.mark.slow
def test_each_number_of_waiting_streams_has_its_figures() -> None:
    figures = measure((2, 5), "program", rounds=1)
    assert [line["waiting"] for line in figures] == [2, 5]
    assert figures[0]["ratio"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["program", "fcfs", "longest-prefix"])
def test_as_many_streams_wait_after_a_round_as_before(policy) -> None:
    crowd = Crowd(7, policy)
    crowd.round()
    batcher = crowd._scheduler.batcher
    assert len(batcher.waiting) + len(batcher.running) == 7 + 16
    crowd.close()
