"""What all connections of a front work with. One object, owned by the front."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from .constraints import ConstraintPool
from .deadlines import Deadlines
from .outbox import Outbox
from .pins import Pins
from .questions import Questions
from .sessions import Sessions
from .streams import Streams
from .suspects import Suspects

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from furcate.protocol.message import Ask

    from .questions import Facts
    from .setting import Setting

__all__ = ["Desk"]


@dataclass(slots=True)
class Desk:
    """`lost` says how the engine ended for good; None while there is one or another will come."""

    setting: Setting
    outbox: Outbox = field(default_factory=Outbox)
    deadlines: Deadlines = field(default_factory=Deadlines)
    serials: Iterator[int] = field(default_factory=count)
    suspects: Suspects = field(default_factory=Suspects)
    lost: str | None = None
    streams: Streams = field(init=False)
    constraints: ConstraintPool = field(init=False)
    sessions: Sessions = field(init=False)
    questions: Questions = field(init=False)
    own_facts: Callable[[], Facts] = dict  # set by the front

    def __post_init__(self) -> None:
        self.streams = Streams(self.outbox)
        self.constraints = ConstraintPool(self.outbox)
        limits = self.setting.limits
        self.sessions = Sessions(limits, Pins(self.outbox, limits.pins))
        self.questions = Questions(self.outbox)

    def ask(self, client: Hashable, ask: Ask) -> None:
        if ask.what == "flush_cache":
            self.sessions.pins.clear()
        self.questions.ask(client, ask, self.own_facts)
        if self.lost is not None:
            self.questions.engine_lost()
