"""A backend for programs: the real runtime in this process, with a model without weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate import Session
from furcate.lang.backend.inprocess import EngineChannel
from furcate.runtime import launch
from furcate.runtime.clock import MonotonicClock
from furcate.runtime.config import ScheduleConfig
from furcate.runtime.constrain.service import CompileService
from furcate.runtime.server.text import template_of
from furcate.runtime.testing import ContextModel, ScriptedModel, make_scheduler, reply_with
from furcate.runtime.tokenize.byte_level import ByteTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from furcate.runtime.engine.batch import Model
    from furcate.runtime.scheduler.scheduler import Scheduler

__all__ = ["EngineInProcess"]


class EngineInProcess(Session):
    """Over any model; `replies` scripts one (see `reply_with`), and without either it is the
    context model. Constraints are compiled and enforced by the real engines. Without checks of the
    scheduler's invariants it is several times as fast."""

    def __init__(
        self,
        replies: dict[str, str] | None = None,
        *,
        model: Model | None = None,
        num_pages: int = 512,
        check_invariants: bool = True,
    ) -> None:
        codec = ByteTokenizer()
        if model is None:
            model = ContextModel() if replies is None else ScriptedModel(reply_with(replies))

        def build(wake: Callable[[], None]) -> Scheduler:
            constraints = CompileService(codec, model.vocab_size, workers=False)
            return make_scheduler(
                model,
                codec=codec,
                num_pages=num_pages,
                constraints=constraints,
                config=ScheduleConfig(check_invariants=check_invariants),
                clock=MonotonicClock(),
            )

        super().__init__(
            EngineChannel.over(
                lambda deliver, lost: launch.local_runtime_for(
                    build, codec, template_of(codec), deliver, lost
                )
            )
        )
