"""The only place that time comes from. A clock is passed in, so that tests can turn it."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "MonotonicClock"]


class Clock(Protocol):
    """Seconds since some moment; never goes back."""

    def now(self) -> float: ...


class MonotonicClock:
    """The machine's own."""

    def now(self) -> float:
        return time.monotonic()
