"""The measure of accuracy itself, on distributions whose distances are known."""

from __future__ import annotations

import math

import pytest
import torch
from tests.bench.accuracy import Comparison, compare

from furcate.runtime.testing import ContextModel

IDS = [(7 * n) % 259 for n in range(75)]


def test_a_model_does_not_differ_from_itself() -> None:
    accuracy = compare(ContextModel(), ContextModel(), IDS, window=32, chunk=8)
    assert (accuracy.change, accuracy.kl_max, accuracy.top1) == (0, 0, 1)
    assert accuracy.perplexity == accuracy.reference_perplexity
    assert accuracy.is_near


def test_every_token_of_a_window_but_its_first_is_predicted() -> None:
    tested = ContextModel()
    assert compare(ContextModel(), tested, IDS, window=32, chunk=8).tokens == 31 + 31 + 10
    assert tested.num_tokens == 31 + 31 + 10  # none is computed that predicts nothing
    assert compare(ContextModel(), ContextModel(), IDS[:65], window=32, chunk=8).tokens == 62


def test_chunks_change_nothing_and_windows_do() -> None:
    pairs = {
        (window, chunk): compare(ContextModel(), ContextModel(seed=1), IDS, window, chunk)
        for window, chunk in [(32, 32), (32, 5), (75, 75)]
    }
    assert pairs[32, 32] == pairs[32, 5]
    assert pairs[32, 32] != pairs[75, 75]


def test_another_model_is_not_near() -> None:
    accuracy = compare(ContextModel(), ContextModel(seed=1, likely=[5]), IDS, window=32)
    assert not accuracy.is_near
    assert accuracy.kl_mean > 0.1
    assert accuracy.top1 < 0.5


def test_divergence_and_perplexity_are_those_of_the_distributions() -> None:
    p, q = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.5, 0.25]])
    comparison = Comparison()
    comparison.add(p.log() + 3, q.log() - 2, torch.tensor([0]))  # a constant changes nothing
    comparison.add(p.log(), p.log(), torch.tensor([1]))
    accuracy = comparison.result()
    assert accuracy.kl_max == pytest.approx(0.25 * math.log(2))
    assert accuracy.kl_mean == pytest.approx(0.125 * math.log(2))
    assert accuracy.reference_perplexity == pytest.approx(math.sqrt(2 * 4))
    assert accuracy.perplexity == pytest.approx(4)
    assert accuracy.change == pytest.approx(math.sqrt(2) - 1)
    assert (accuracy.tokens, accuracy.top1) == (2, 0.5)
