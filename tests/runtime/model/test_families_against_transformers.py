"""Every family against transformers on a tiny random checkpoint: the same logits, the same greedy
tokens, and its own bits however a sequence is cut, batched and shared."""

from __future__ import annotations

import itertools
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
import torch
from tests.fakes.native_models import Row, batch_of, logits_of

from furcate.runtime.engine.batch import PageCopy
from furcate.runtime.model.load import load_model

if TYPE_CHECKING:
    from pathlib import Path

    from furcate.runtime.model.base import LanguageModel

pytest.importorskip("transformers")

from tests.fakes.families import FAMILIES, VOCAB_SIZE

pytestmark = pytest.mark.slow

PAGE = 16
PROMPT = 270  # tokens: more than a split of keys
NEW_TOKENS = 64
TOLERANCE = 1e-4  # of the largest logit


class Pair(NamedTuple):
    """A family's checkpoint in both runtimes."""

    reference: torch.nn.Module
    model: LanguageModel


@cache
def _ids(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCAB_SIZE, length).astype(np.int32)


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    family = FAMILIES[request.param]
    reference = family.model()
    folder = family.save(tmp_path_factory.mktemp("family"), reference)
    model = load_model(folder, "float32")
    model.allocate(num_pages=128, page_size=PAGE)
    return Pair(reference, model)


@torch.no_grad()
def _expected(reference: torch.nn.Module, ids: np.ndarray) -> np.ndarray:
    logits: torch.Tensor = reference(torch.from_numpy(ids).long()[None]).logits[0]
    return logits.numpy()


def test_a_prompt_has_the_logits_of_transformers(pair: Pair) -> None:
    expected = _expected(pair.reference, _ids(PROMPT))
    (found,) = logits_of(pair.model, [Row(_ids(PROMPT), 0, range(20))])
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_bfloat16_is_near(pair: Pair, tmp_path: Path) -> None:
    folder = FAMILIES["llama"].save(tmp_path, pair.reference)
    model = load_model(folder, "bfloat16")
    model.allocate(num_pages=32, page_size=PAGE)
    expected = _expected(pair.reference, _ids(PROMPT))
    (found,) = logits_of(model, [Row(_ids(PROMPT), 0, range(20))])
    error = np.sqrt(((found - expected) ** 2).mean(axis=1)) / expected.std()
    # The median: a near tie of experts that goes the other way is another forward.
    assert np.median(error) < 0.03


def test_chunks_and_decode_steps_have_the_bits_of_the_whole(pair: Pair) -> None:
    ids = _ids(PROMPT)
    (whole,) = logits_of(pair.model, [Row(ids, 0, range(20))])
    bounds = [0, 3, 40, 250, *range(264, PROMPT + 1)]
    pages = range(60, 40, -1)
    parts = [
        logits_of(pair.model, [Row(ids[first:end], first, pages)])[0]
        for first, end in itertools.pairwise(bounds)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_row_has_the_same_bits_among_others(pair: Pair) -> None:
    sequences = [_ids(1 + 37 * n, seed=n) for n in range(5)]
    alone = [logits_of(pair.model, [Row(ids, 0, range(10))])[0] for ids in sequences]
    rows = [Row(ids, 0, range(10 * n, 10 * n + 10)) for n, ids in enumerate(sequences)]
    for found, expected in zip(logits_of(pair.model, rows), alone, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_forks_in_the_middle_of_a_page_have_the_bits_of_cold_runs(pair: Pair) -> None:
    shared = 263
    prompt, pages = _ids(shared), list(range(17))
    branches = [_ids(12, seed=n) for n in range(1, 4)]
    rows, copies = [Row(prompt[250:], 250, pages)], []
    for n, branch in enumerate(branches):
        tail = 40 + 2 * n
        rows.append(Row(branch, shared, [*pages[:-1], tail, tail + 1]))
        copies.append(PageCopy(pages[-1], tail, shared % PAGE))
    logits_of(pair.model, [Row(prompt[:250], 0, pages)])
    _, *together = logits_of(pair.model, rows, copies)
    for found, branch in zip(together, branches, strict=True):
        (cold,) = logits_of(pair.model, [Row(np.concatenate((prompt, branch)), 0, range(60, 80))])
        np.testing.assert_array_equal(found, cold[shared:])


def test_greedy_tokens_are_those_of_transformers(pair: Pair) -> None:
    prompt = _ids(PROMPT)[:20]
    found, row = [], Row(prompt, 0, range(6))
    for _ in range(NEW_TOKENS):
        token = int(pair.model.forward(batch_of([row])).numpy()[-1].argmax())
        found.append(token)
        row = Row(np.array([token], np.int32), len(prompt) + len(found) - 1, range(6))
    ids = torch.from_numpy(prompt).long()[None]
    expected = pair.reference.generate(  # type: ignore[operator]
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=None,
    )
    assert found == expected[0, len(prompt) :].tolist()


def test_long_rope_is_that_of_transformers_beyond_the_original_context(tmp_path: Path) -> None:
    family = FAMILIES["phi4, partial long rope"]
    reference = family.model()
    folder = family.save(tmp_path, reference)
    assert load_model(folder, "float32").max_context == 512
    model = load_model(folder, "float32", long_rope=True)
    assert model.max_context == 1024
    model.allocate(64, PAGE)
    ids = _ids(600)
    expected = _expected(reference, ids)
    (found,) = logits_of(model, [Row(ids, 0, range(40))])
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
