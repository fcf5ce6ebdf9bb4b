"""From a configuration to a scheduler: the one place that knows which parts an engine is made of.

Imports torch; the front does not import this module.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import torch

from furcate.errors import CapacityError
from furcate.protocol.message import PROTOCOL_VERSION
from furcate.protocol.stream import EngineReady
from furcate.runtime.constrain.service import CompileService
from furcate.runtime.engine.executor import ModelExecutor
from furcate.runtime.scheduler.scheduler import Scheduler

from .text import TEST_PREFIX, load_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from furcate.runtime.config import CacheConfig, Config, ModelConfig
    from furcate.runtime.engine.batch import Model
    from furcate.runtime.tokenize.base import TextCodec

__all__ = ["build_scheduler"]

log = logging.getLogger(__name__)

LEAST_PAGES = 2  # one to read and one to write


def build_scheduler(
    config: Config, wake: Callable[[], None], codec: TextCodec | None = None
) -> Scheduler:
    """To be called on the thread that will run it. `wake` is called from any thread, when something
    that a stream waits for is there. `codec` is the model's, where it is loaded already."""
    torch.set_num_threads(config.engine.threads or _spare_cores())
    codec = codec or load_text(config.model).codec
    model = _load_model(config.model)
    num_pages = _count_pages(config.cache, model)
    executor = ModelExecutor(model, num_pages, config.cache.page_size)
    log.info("%d pages of %d tokens for the KV cache", num_pages, config.cache.page_size)
    ready = EngineReady(
        protocol=PROTOCOL_VERSION,
        model=config.model.name,
        tokenizer_fingerprint=codec.fingerprint,
        max_context=min(model.max_context, num_pages * config.cache.page_size),
        vocab_size=model.vocab_size,
    )
    return Scheduler(
        executor=executor,
        constraints=CompileService(codec, model.vocab_size, on_ready=lambda _: wake()),
        table=codec.table,
        ready=ready,
        config=config.schedule,
    )


def _spare_cores() -> int:
    """All cores but one: torch's threads spin at every barrier, and where the scheduler, the front
    or anything else takes one of their cores, each of a thousand barriers a step costs a time
    slice."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


def _load_model(config: ModelConfig) -> Model:
    if config.name.startswith(TEST_PREFIX):
        from furcate.runtime.testing import model_named  # scripts and dice, for tests

        return model_named(config.name.removeprefix(TEST_PREFIX))
    from furcate.runtime.model.catalog import ensure
    from furcate.runtime.model.registry import load_model

    return load_model(ensure(config.name), config.dtype)


def _count_pages(config: CacheConfig, model: Model) -> int:
    num_pages = config.kv_bytes // (config.page_size * model.kv_bytes_per_token)
    if num_pages < LEAST_PAGES:
        needed = LEAST_PAGES * config.page_size * model.kv_bytes_per_token
        raise CapacityError(
            f"--kv-bytes {config.kv_bytes} holds {num_pages} pages of {config.page_size} tokens; "
            f"this model needs {needed} bytes at the least: give it more"
        )
    return num_pages
