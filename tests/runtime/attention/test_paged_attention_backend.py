"""The backend's own part: pages for each layer, and the order of write, copy and attend."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from furcate.runtime.attention import AttentionSpec, PagedAttention

SPEC = AttentionSpec(num_layers=2, num_heads=4, kv_heads=2, head_dim=8, dtype=torch.float32)


def _rows(length: int, first: int, pages: list[int]) -> SimpleNamespace:
    return SimpleNamespace(
        positions=np.arange(first, first + length, dtype=np.int32),
        row_starts=np.array([0, length], np.int32),
        kv_lens=np.array([first + length], np.int32),
        page_table=np.array([pages], np.int32),
    )


def _heads(length: int, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, n, 8, generator=generator) for n in (4, 2, 2)]


def _backend() -> PagedAttention:
    backend = PagedAttention(SPEC)
    backend.allocate(num_pages=8, page_size=16)
    return backend


def test_layers_do_not_see_each_others_keys() -> None:
    backend = _backend()
    first, second = _heads(4, 0), _heads(4, 1)
    plan = backend.plan(_rows(4, 0, [3]), ())
    backend.attend(0, plan, *first)
    assert torch.equal(backend.attend(1, plan, *second), _backend().attend(0, plan, *second))


def test_a_copy_reads_what_its_own_forward_has_written() -> None:
    backend, q_k_v = _backend(), _heads(4, 0)
    backend.attend(0, backend.plan(_rows(4, 0, [3]), ((3, 5, 4),)), *q_k_v)
    step = _heads(1, 1)
    from_copy = backend.attend(0, backend.plan(_rows(1, 4, [5]), ()), *step)
    from_source = backend.attend(0, backend.plan(_rows(1, 4, [3]), ()), *step)
    assert torch.equal(from_copy, from_source)


def test_the_price_of_a_token_counts_both_halves_of_every_layer() -> None:
    assert SPEC.kv_bytes_per_token == 2 * 2 * 2 * 8 * 4


def test_pages_are_made_once() -> None:
    backend = _backend()
    with pytest.raises(AssertionError, match="made once"):
        backend.allocate(8, 16)
