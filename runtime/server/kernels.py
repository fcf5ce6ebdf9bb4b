"""Which kernels an engine computes with: chosen once, when it starts, and said once in the log.

Knows the options; does not know models.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from furcate.errors import UsageError
from furcate.kernels.build import BuildFailed, CompilerMissing
from furcate.kernels.library import Pool, load
from furcate.runtime.model.catalog import cache_home

if TYPE_CHECKING:
    from furcate.kernels.library import Library
    from furcate.runtime.config import Config, EngineConfig
    from furcate.runtime.model.load import Dtype

__all__ = ["choose_library", "make_pool", "reference_dtype"]

log = logging.getLogger(__name__)


def choose_library(config: EngineConfig) -> Library | None:
    """The native kernels that were asked for; None is the reference in torch.

    "auto" takes the reference where there is no compiler; a named instruction set is never
    replaced by another.
    """
    if config.kernels == "reference":
        log.info("kernels: the reference in torch")
        return None
    try:
        library = load(config.kernels, cache_home() / "kernels")
    except (CompilerMissing, BuildFailed) as error:
        if config.kernels != "auto":
            raise UsageError(f"--kernels {config.kernels}: {error}") from error
        log.warning("kernels: the reference in torch, which is many times slower: %s", error)
        return None
    except ValueError as error:
        raise UsageError(f"--kernels {config.kernels}: {error}") from error
    log.info("kernels: %s, from %s", library.tier, library.path)
    return library


def make_pool(config: EngineConfig, library: Library) -> Pool:
    """The threads of the forwards. Theirs may be every core: they give one up to whoever wants
    it."""
    cores = sorted(os.sched_getaffinity(0))
    num_threads = config.threads or len(cores)
    if not config.pin_threads:
        return Pool(library, num_threads)
    if num_threads > len(cores):
        raise UsageError(
            f"--pin-threads: there are {len(cores)} cores for --threads {num_threads}; ask for no "
            f"more threads than cores, or do not pin them"
        )
    return Pool(library, num_threads, cores[:num_threads])


def reference_dtype(config: Config) -> Dtype:
    """The numbers that the reference computes in and stores keys and values in."""
    matmul, kv_dtype = config.model.matmul, config.cache.kv_dtype
    if matmul == "int8" or kv_dtype == "int8":
        flag = "--matmul" if matmul == "int8" else "--kv-dtype"
        raise UsageError(f"{flag} int8 needs native kernels, and the reference computes here")
    if kv_dtype not in ("auto", matmul):
        raise UsageError(
            f"--kv-dtype {kv_dtype}: the reference stores what it computes in; use --matmul "
            f"{kv_dtype}, or --kv-dtype auto"
        )
    return "bfloat16" if matmul == "bf16" else "float32" if matmul == "fp32" else "auto"
