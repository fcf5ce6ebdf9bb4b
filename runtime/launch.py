"""Starts the runtime: as a server in processes of its own, or inside the caller's.

The only module that those who start a runtime import; knows no message.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from furcate.runtime.clock import MonotonicClock
from furcate.runtime.config import Config, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from furcate.errors import FurcateError
    from furcate.protocol.message import Event
    from furcate.protocol.stream import EngineReady
    from furcate.runtime.graph.front import Front
    from furcate.runtime.graph.limits import Limits
    from furcate.runtime.mock import Answer, MockRuntime
    from furcate.runtime.scheduler.scheduler import Scheduler
    from furcate.runtime.server.engine_loop import Steps
    from furcate.runtime.server.inspection import Inspection
    from furcate.runtime.server.local import LocalRuntime
    from furcate.runtime.tokenize.base import TextCodec
    from furcate.runtime.tokenize.template import ChatTemplate

    Deliver = Callable[[Sequence[Event]], None]
    Lost = Callable[[FurcateError], None]
    Wake = Callable[[], None]

__all__ = [
    "build_scheduler",
    "configure",
    "inspect",
    "local_runtime",
    "local_runtime_for",
    "mock_runtime",
    "serve",
]


def configure(options: Mapping[str, object]) -> Config:
    """The configuration of these options, by flag name, in this process's environment."""
    return resolve(options, os.environ)


def serve(config: Config, announce: Callable[[str], None]) -> None:
    """Front and engine process; returns after SIGTERM or SIGINT. See `server.front.serve`."""
    from furcate.runtime.server import front  # only a server needs sockets

    front.serve(config, announce)


def inspect(config: Config) -> Inspection:
    """What the model of that configuration is and takes. See `server.inspection`."""
    from furcate.runtime.server import inspection  # imports torch

    return inspection.inspect_model(config)


def build_scheduler(config: Config, wake: Wake, codec: TextCodec | None = None) -> Scheduler:
    """The engine of that configuration. See `server.build.build_scheduler`."""
    from furcate.runtime.server import build  # imports torch

    return build.build_scheduler(config, wake, codec)


def local_runtime(config: Config, deliver: Deliver, lost: Lost) -> LocalRuntime:
    """A runtime in this process, to be started."""
    from furcate.runtime.graph.limits import limits_of
    from furcate.runtime.server.text import fetch_model, load_text

    fetch_model(config.model)
    codec, template = load_text(config.model)

    def build(wake: Wake) -> Scheduler:
        return build_scheduler(config, wake, codec)

    return local_runtime_for(build, codec, template, deliver, lost, limits_of(config.sessions))


def local_runtime_for(
    build: Callable[[Wake], Steps],
    codec: TextCodec,
    template: ChatTemplate | None,
    deliver: Deliver,
    lost: Lost,
    limits: Limits | None = None,
) -> LocalRuntime:
    """A runtime in this process around any scheduler; `build` is called on the engine's thread."""
    from furcate.runtime.graph.front import Front
    from furcate.runtime.server.local import LocalRuntime

    def make_front(ready: EngineReady) -> Front:
        return Front(codec, template, ready, limits, MonotonicClock().now())

    return LocalRuntime(build, make_front, deliver, lost)


def mock_runtime(answer: Answer, deliver: Deliver) -> MockRuntime:
    """A runtime without a model, which does everything inside `send`."""
    from furcate.runtime.mock import MockRuntime  # no model, no threads: none of the rest

    return MockRuntime(answer, deliver)
