"""What all connections of a front work with. One object, owned by the front."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from .constraints import ConstraintPool
from .deadlines import Deadlines
from .outbox import Outbox
from .pins import Pins
from .sessions import Sessions
from .streams import Streams
from .suspects import Suspects

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    def __post_init__(self) -> None:
        self.streams = Streams(self.outbox)
        self.constraints = ConstraintPool(self.outbox)
        limits = self.setting.limits
        self.sessions = Sessions(limits, Pins(self.outbox, limits.pins))
