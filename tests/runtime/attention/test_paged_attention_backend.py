"""The backend's own part: pages for each layer, and the order of write, copy and attend."""

from __future__ import annotations

from dataclasses import replace
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


def test_each_layer_has_its_own_window() -> None:
    backend = PagedAttention(replace(SPEC, windows=(2, None)))
    backend.allocate(num_pages=8, page_size=16)
    plan = backend.plan(_rows(5, 0, [3]), ())
    q, k, v = _heads(5, 0)
    local, whole = (backend.attend(layer, plan, q, k, v) for layer in (0, 1))
    assert torch.equal(local[:2], whole[:2])
    assert not torch.equal(local[2:], whole[2:])
    # What a window hides has no part in it.
    k[:3] = 1e4
    assert torch.equal(backend.attend(0, plan, q, k, v)[4], local[4])


def test_values_that_are_keys_are_stored_once() -> None:
    spec = replace(SPEC, values_are_keys=True)
    assert spec.kv_bytes_per_token * 2 == SPEC.kv_bytes_per_token
    once, twice = PagedAttention(spec), _backend()
    once.allocate(num_pages=8, page_size=16)
    q, k, v = _heads(5, 0)
    results = [
        backend.attend(0, backend.plan(_rows(5, 0, [3]), ()), q, k, values)
        for backend, values in ((once, v), (twice, k))
    ]
    assert torch.equal(*results)
    assert len(once.read_page(3)) * 2 == len(twice.read_page(3))


def test_a_copy_of_values_that_are_keys_is_made_once() -> None:
    backend = PagedAttention(replace(SPEC, values_are_keys=True))
    backend.allocate(num_pages=8, page_size=16)
    q, k, v = _heads(4, 0)
    backend.attend(0, backend.plan(_rows(4, 0, [3]), ((3, 5, 4),)), q, k, v)
    backend.attend(1, backend.plan(_rows(4, 0, [3]), ((3, 5, 4),)), q, k, v)
    assert backend.read_page(3) == backend.read_page(5)


def test_a_scale_and_sinks_reach_the_kernel() -> None:
    q, k, v = _heads(4, 0)
    plain = _backend()
    doubled = PagedAttention(replace(SPEC, scale=2 / 8**0.5))
    doubled.allocate(num_pages=8, page_size=16)
    plan = plain.plan(_rows(4, 0, [3]), ())
    assert torch.equal(doubled.attend(0, plan, q, k, v), plain.attend(0, plan, 2 * q, k, v))
    nothing, all_of_it = torch.full((4,), -1e9), torch.full((4,), 1e9)
    assert torch.equal(plain.attend(0, plan, q, k, v, nothing), plain.attend(0, plan, q, k, v))
    assert not plain.attend(0, plan, q, k, v, all_of_it).any()
