"""The engine's thread: takes requests, steps, sends events, and sleeps when there is nothing to do.

Knows neither what a step does nor what carries the messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from furcate.protocol.stream import EngineEvent, EngineReady, EngineRequest

    Wake = Callable[[], None]

__all__ = ["EngineLink", "Steps", "run_engine"]


class EngineLink(Protocol):
    """The engine's end of the way to the front."""

    @property
    def is_stopped(self) -> bool: ...

    def receive(self, block: bool) -> list[EngineRequest]:
        """With `block` it waits for requests, a wake-up or the stop."""
        ...

    def send(self, events: Sequence[EngineEvent]) -> None: ...


class Steps(Protocol):
    """What the loop needs of a scheduler."""

    def handle(self, requests: Sequence[EngineRequest]) -> None: ...

    def step(self) -> list[EngineEvent]: ...

    @property
    def has_work(self) -> bool: ...

    def ready(self) -> EngineReady: ...

    def close(self) -> None: ...


def run_engine(scheduler: Steps, link: EngineLink) -> None:
    """Returns when the link is stopped; raises what the scheduler raises."""
    link.send([scheduler.ready()])
    while not link.is_stopped:
        requests = link.receive(block=not scheduler.has_work)
        if requests:
            scheduler.handle(requests)
        events = scheduler.step()
        if events:
            link.send(events)
