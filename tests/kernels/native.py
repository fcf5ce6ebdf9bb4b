"""What the tests of native kernels share: the library of each tier, built once, and pools.

A test module takes the tiers with `@pytest.mark.parametrize("tier", TIERS)` and calls
`library(tier)`, which skips where this processor lacks the tier. `library(tier, "linear")` holds
that operation and the pool alone, and so does not fail for the sources of others.
"""

from __future__ import annotations

import atexit
import functools
import os
import tempfile
from pathlib import Path

import pytest

from furcate.kernels.build import TIERS, CompilerMissing
from furcate.kernels.library import Library, Pool, available_tiers, load

__all__ = ["AVAILABLE", "TIERS", "library", "pool"]

AVAILABLE = available_tiers()  # without a skip: for tests that compare tiers


def folder() -> Path:
    """Libraries are kept from run to run, apart from those of the user."""
    return Path(tempfile.gettempdir()) / f"furcate-test-kernels-{os.getuid()}"


@functools.cache
def _built(tier: str, ops: tuple[str, ...]) -> Library | CompilerMissing:
    try:
        return load(tier, folder(), ops)
    except CompilerMissing as missing:
        return missing


def library(tier: str, *ops: str) -> Library:
    if tier not in AVAILABLE:
        pytest.skip(f"this processor does not run {tier}")
    built = _built(tier, ("pool", *ops) if ops else ())
    if isinstance(built, CompilerMissing):
        pytest.skip(str(built))
    return built


@functools.cache
def pool(tier: str, num_threads: int = 2, *ops: str) -> Pool:
    """A pool that lives until the tests end; of the same library as `library(tier, *ops)`."""
    made = Pool(library(tier, *ops), num_threads)
    atexit.register(made.close)
    return made
