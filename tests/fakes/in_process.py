"""A session on the real front and the real scheduler in this process, over a model without weights.

The engine has the byte tokenizer, or one that is given, and checks every invariant at every step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import furcate as fc
from furcate.lang.backend.inprocess import EngineChannel
from furcate.runtime import launch
from furcate.runtime.config import ScheduleConfig
from furcate.runtime.constrain.service import CompileService
from furcate.runtime.server.text import template_of
from furcate.runtime.testing import ContextModel, ScriptedModel, make_scheduler, reply_with
from furcate.runtime.tokenize.byte_level import ByteTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from furcate.runtime.engine.batch import Model
    from furcate.runtime.graph.limits import Limits
    from furcate.runtime.scheduler.scheduler import Scheduler
    from furcate.runtime.tokenize.base import TextCodec

__all__ = ["context_session", "model_session", "scripted_session"]


def model_session(
    model: Model,
    codec: TextCodec | None = None,
    *,
    num_pages: int = 256,
    page_size: int = 16,
    limits: Limits | None = None,
    checks: bool = True,
) -> fc.Session:
    """`checks`: every invariant of the engine, at every step."""
    codec = codec or ByteTokenizer()

    def build(wake: Callable[[], None]) -> Scheduler:
        constraints = CompileService(
            codec, model.vocab_size, workers=False, on_ready=lambda _: wake()
        )
        return make_scheduler(
            model,
            codec=codec,
            num_pages=num_pages,
            page_size=page_size,
            constraints=constraints,
            overlap=True,
            config=ScheduleConfig(check_invariants=checks),
        )

    return fc.Session(
        EngineChannel.over(
            lambda deliver, lost: launch.local_runtime_for(
                build, codec, template_of(codec), deliver, lost, limits
            )
        )
    )


def context_session(*, seed: int = 0, num_pages: int = 256) -> fc.Session:
    """Its output changes with any token before it."""
    return model_session(ContextModel(seed=seed), num_pages=num_pages)


def scripted_session(
    replies: dict[str, str], codec: TextCodec | None = None, *, num_pages: int = 256
) -> fc.Session:
    """After a text that ends with a key comes its reply, then the end of the turn."""
    codec = codec or ByteTokenizer()
    (end,) = codec.eos_ids
    model = ScriptedModel(reply_with(replies, codec, end), len(codec.table))
    return model_session(model, codec, num_pages=num_pages)
