"""From a configuration to an engine, and what is refused on the way."""

from __future__ import annotations

import pytest

from furcate.errors import CapacityError, ModelError, UsageError
from furcate.lang.backend.inprocess import EngineChannel
from furcate.protocol.message import PROTOCOL_VERSION
from furcate.runtime import launch
from furcate.runtime.config import resolve
from furcate.runtime.server import build


def config_of(**options: object):
    return resolve({"model": "test:context", "threads": 1, **options}, {})


def test_an_engine_says_what_it_serves() -> None:
    scheduler = launch.build_scheduler(config_of(kv_bytes="64KiB"), lambda: None)
    ready = scheduler.ready()
    assert ready.protocol == PROTOCOL_VERSION
    assert ready.model == "test:context"
    assert ready.max_context == 4096
    assert not scheduler.has_work
    scheduler.close()


def test_a_context_that_does_not_fit_the_cache_is_not_promised() -> None:
    scheduler = launch.build_scheduler(config_of(kv_bytes="16KiB"), lambda: None)
    assert scheduler.ready().max_context == 1024
    scheduler.close()


def test_a_cache_without_room_for_two_pages_names_the_bytes_that_are_needed() -> None:
    with pytest.raises(CapacityError, match=r"--kv-bytes 4096 holds 0 pages .* needs 16384 bytes"):
        build.build_scheduler(config_of(kv_bytes=4096, page_size=512), lambda: None)


def test_unknown_models_are_named() -> None:
    with pytest.raises(ModelError, match="'nothing'"):
        launch.build_scheduler(config_of(model="test:nothing"), lambda: None)
    with pytest.raises(ModelError, match="'nothing'"):
        EngineChannel("nothing").open(lambda events: None, lambda error: None)


def test_unknown_options_of_an_engine_are_named() -> None:
    with pytest.raises(UsageError, match="did you mean 'kv_bytes'"):
        EngineChannel("test:context", kv_byte=1)


def test_an_engine_opens_in_this_process_and_welcomes() -> None:
    channel = EngineChannel("test:context", kv_bytes="64KiB", threads=1)
    welcome = channel.open(lambda events: None, lambda error: None)
    assert welcome.model == "test:context"
    assert welcome.max_context == 4096
    channel.close()
