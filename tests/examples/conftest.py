"""Backends for the examples, set as the default the way `furcate run` sets it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import furcate as fc

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def context_engine() -> Iterator[fc.Session]:
    with fc.Engine("test:context", kv_bytes="1MiB") as engine:
        yield engine


@pytest.fixture(scope="module")
def smollm2() -> Iterator[fc.Session]:
    with fc.Engine("smollm2", kv_bytes="128MiB") as engine:
        yield engine


@pytest.fixture
def default_context(context_engine: fc.Session) -> Iterator[fc.Session]:
    fc.set_default_backend(context_engine)
    yield context_engine
    fc.set_default_backend(None)
