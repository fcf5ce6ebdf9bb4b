"""From a configuration to a scheduler: the one place that knows which parts an engine is made of.

Imports torch; the front does not import this module.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import torch

from furcate.errors import CapacityError, UsageError
from furcate.protocol.message import PROTOCOL_VERSION
from furcate.protocol.stream import EngineReady
from furcate.runtime.clock import MonotonicClock
from furcate.runtime.constrain.service import CompileService
from furcate.runtime.engine.executor import ModelExecutor
from furcate.runtime.memory import available_bytes
from furcate.runtime.progress import no_bar
from furcate.runtime.scheduler.masks import MaskLanes
from furcate.runtime.scheduler.scheduler import Scheduler

from .kernels import choose_library, make_pool, reference_dtype
from .room import check_room, room_for
from .text import TEST_PREFIX, check_vocabulary, load_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from furcate.kernels.library import Library
    from furcate.kernels.structures import KVType
    from furcate.runtime.config import CacheConfig, Config, EngineConfig
    from furcate.runtime.engine.batch import Model
    from furcate.runtime.engine.executor import Executor
    from furcate.runtime.progress import Bar
    from furcate.runtime.scheduler.step import LaunchLog
    from furcate.runtime.tokenize.base import TextCodec

__all__ = ["build_executor", "build_scheduler"]

log = logging.getLogger(__name__)

LEAST_PAGES = 2  # one to read and one to write


def build_scheduler(
    config: Config,
    wake: Callable[[], None],
    codec: TextCodec | None = None,
    launch_log: LaunchLog | None = None,
    bar: Bar = no_bar,
) -> Scheduler:
    """To be called on the thread that will run it. `wake` is called from any thread, when something
    that a stream waits for is there. `codec` is the model's, where it is loaded already."""
    codec = codec or load_text(config.model).codec
    executor = build_executor(config, bar)
    check_vocabulary(codec, executor.vocab_size)
    log.info("%d pages of %d tokens for the KV cache", executor.num_pages, executor.page_size)
    ready = EngineReady(
        protocol=PROTOCOL_VERSION,
        model=config.model.name,
        tokenizer_fingerprint=codec.fingerprint,
        max_context=min(executor.max_context, executor.num_pages * executor.page_size),
        vocab_size=executor.vocab_size,
    )
    return Scheduler(
        executor=executor,
        constraints=CompileService(codec, executor.vocab_size, on_ready=lambda _: wake()),
        table=codec.table,
        ready=ready,
        config=config.schedule,
        eviction=config.cache.eviction,
        masks=MaskLanes(executor.vocab_size, wake, MonotonicClock()),
        launch_log=launch_log,
    )


def build_executor(config: Config, bar: Bar = no_bar) -> Executor:
    """The model on the kernels that the configuration asks for, with its KV pages."""
    if config.model.name.startswith(TEST_PREFIX):
        from furcate.runtime.testing import LateExecutor, model_named  # scripts and dice, for tests

        torch.set_num_threads(config.engine.threads or _spare_cores())
        model = model_named(config.model.name.removeprefix(TEST_PREFIX))
        num_pages = _count_pages(config.cache, model.kv_bytes_per_token)
        return LateExecutor(model, num_pages, config.cache.page_size)
    from furcate.runtime.model.catalog import ensure

    path = ensure(config.model.name)
    library = _library_for(config.engine, path)
    room = room_for(path, config, None if library is None else library.tier)
    check_room(room, config.cache.kv_bytes, available_bytes(), config.model.name)
    # What is left to torch is small; its threads would take the cores from the native ones.
    torch.set_num_threads(1 if library else config.engine.threads or _spare_cores())
    if library is None:
        from furcate.runtime.model.load import load_model

        dtype = reference_dtype(config)
        model = load_model(path, dtype, long_rope=config.model.long_rope, bar=bar)
        return _reference(config, model)
    return _native(config, path, library, bar)


def _library_for(config: EngineConfig, path: Path) -> Library | None:
    """Native kernels for the model in a file. None is the reference; only "auto" comes to it by
    itself."""
    from furcate.runtime.model.load import why_not_native

    reason = why_not_native(path) if config.kernels == "auto" else None
    if reason is None:
        return choose_library(config)
    log.warning(
        "kernels: the reference in torch, which is many times slower: native ones cannot run %s",
        reason,
    )
    return None


def _reference(config: Config, model: Model) -> Executor:
    num_pages = _count_pages(config.cache, model.kv_bytes_per_token)
    return ModelExecutor(model, num_pages, config.cache.page_size)


def _native(config: Config, path: Path, library: Library, bar: Bar) -> Executor:
    from furcate.runtime.engine.native import NativeExecutor
    from furcate.runtime.model.load import load_native_model

    if config.cache.kv_dtype == "fp32":
        raise UsageError(
            "--kv-dtype fp32 needs --kernels reference; native kernels keep bf16 or int8"
        )
    kv_type: KVType = "int8" if config.cache.kv_dtype == "int8" else "bf16"
    pool = make_pool(config.engine, library)
    try:
        long_rope = config.model.long_rope
        model = load_native_model(
            path, pool, config.model.matmul, kv_type, long_rope=long_rope, bar=bar
        )
        num_pages = _count_pages(config.cache, model.kv_bytes_per_token)
        return NativeExecutor(model, num_pages, config.cache.page_size)
    except BaseException:
        pool.close()
        raise


def _spare_cores() -> int:
    """All cores but one: torch's threads spin at every barrier, and where the scheduler, the front
    or anything else takes one of their cores, each of a thousand barriers a step costs a time
    slice."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


def _count_pages(config: CacheConfig, bytes_per_token: int) -> int:
    num_pages = config.kv_bytes // (config.page_size * bytes_per_token)
    if num_pages < LEAST_PAGES:
        needed = LEAST_PAGES * config.page_size * bytes_per_token
        raise CapacityError(
            f"--kv-bytes {config.kv_bytes} holds {num_pages} pages of {config.page_size} tokens; "
            f"this model needs {needed} bytes at the least: give it more"
        )
    return num_pages
