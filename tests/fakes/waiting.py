"""Streams as a policy sees them, with nothing behind them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from furcate.runtime.scheduler.policies import POLICIES, Surroundings
from furcate.runtime.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from furcate.runtime.scheduler.policies import Policy, Waiting

__all__ = ["FakeStream", "Streams", "policy", "surroundings"]


@dataclass(eq=False)
class FakeStream:
    id: int
    program: int = 0
    namespace: str = ""
    priority: int = 0
    arrival: int = 0
    deadline: float | None = None
    path: int = 0
    num_waiting: int = 0
    gang: Hashable = None
    num_uncomputed: int = 1
    cached: int = 0

    def __repr__(self) -> str:
        return f"<{self.id}>"


class Streams:
    """Makes them, each with the next number and a program of its own unless it is told one."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def __call__(self, **fields: object) -> FakeStream:
        number = next(self._numbers)
        stream = FakeStream(number, program=number, arrival=number)
        for name, value in fields.items():
            assert hasattr(stream, name), name
            setattr(stream, name, value)
        return stream


def surroundings(
    clock: ManualClock | None = None, seconds_needed: Callable[[Waiting], float] = lambda s: 1.0
) -> Surroundings[Waiting]:
    """What is cached of a stream is what it says itself."""
    clock = clock or ManualClock()
    return Surroundings(clock.now, lambda stream: getattr(stream, "cached", 0), seconds_needed)


def policy(name: str, around: Surroundings[Waiting] | None = None) -> Policy[Waiting]:
    return POLICIES[name](around or surroundings())
