"""Masks of constrained rows, filled beside the scheduler's thread; the slow ones hold up nobody.

Two lanes, a thread each: one for matchers that were quick the last time, one for those that took
more than SLOW_S. The scheduler waits for the quick lane while the forward runs and a little longer,
for the slow lane not at all. A row whose mask is late misses its draw, and its stream is taken up
again when the mask is there. Knows matchers, not what they say.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from furcate.runtime.clock import Clock
    from furcate.runtime.constrain.base import Matcher

__all__ = ["InlineMasks", "MaskFiller", "MaskLanes", "MaskTicket"]

SLOW_S = 0.001  # a fill that takes longer is slow the next time
GRACE_S = 0.002  # that quick fills may take beyond their forward
LOOK_S = 0.0005  # how often it is seen whether the forward is over


@dataclass(slots=True, eq=False)
class MaskTicket:
    """One mask, int32 [ceil(vocab_size / 32)], that is there once `is_done`. Until then its matcher
    is nobody else's."""

    matcher: Matcher
    mask: np.ndarray
    is_done: bool = False
    seconds: float = 0.0

    @property
    def was_slow(self) -> bool:
        return self.seconds > SLOW_S

    def fill(self, clock: Clock) -> None:
        begin = clock.now()
        self.matcher.fill_mask(self.mask)
        self.seconds = clock.now() - begin
        self.is_done = True


class MaskFiller(Protocol):
    @property
    def num_words(self) -> int:
        """Of a mask."""
        ...

    def fill(
        self, matchers: Sequence[tuple[Matcher, bool]], is_over: Callable[[], bool]
    ) -> list[MaskTicket]:
        """A ticket for each matcher; the flag says that it was slow before. Returns when it is best
        to go on, `is_over` telling whether the forward has ended; tickets may not be done then."""
        ...

    def close(self) -> None: ...


class InlineMasks:
    """Fills in the caller's thread, so that every ticket is done."""

    def __init__(self, vocab_size: int, clock: Clock) -> None:
        self.num_words = -(-vocab_size // 32)
        self._clock = clock

    def fill(
        self, matchers: Sequence[tuple[Matcher, bool]], is_over: Callable[[], bool]
    ) -> list[MaskTicket]:
        tickets = []
        for matcher, _ in matchers:
            ticket = MaskTicket(matcher, np.zeros(self.num_words, np.int32))
            ticket.fill(self._clock)
            tickets.append(ticket)
        return tickets

    def close(self) -> None:
        pass


class MaskLanes:
    """`wake` is called from another thread when a late mask is there."""

    def __init__(self, vocab_size: int, wake: Callable[[], None], clock: Clock) -> None:
        self.num_words = -(-vocab_size // 32)
        self._wake = wake
        self._clock = clock
        self._quick = ThreadPoolExecutor(1, "furcate-masks")
        self._slow = ThreadPoolExecutor(1, "furcate-slow-masks")
        for lane in (self._quick, self._slow):
            lane.submit(int)  # the threads start now, and not in the middle of something

    def fill(
        self, matchers: Sequence[tuple[Matcher, bool]], is_over: Callable[[], bool]
    ) -> list[MaskTicket]:
        zeros = np.zeros((len(matchers), self.num_words), np.int32)
        tickets = [
            MaskTicket(matcher, mask) for (matcher, _), mask in zip(matchers, zeros, strict=True)
        ]
        batch = _Batch(self._clock)
        quick = []
        for ticket, (_, was_slow) in zip(tickets, matchers, strict=True):
            if was_slow:
                self._slow.submit(self._fill_slow, ticket)
            else:
                quick.append(ticket)
        if quick:
            self._quick.submit(self._fill_quick, quick, batch)
            batch.wait(is_over)
        return tickets

    def close(self) -> None:
        """Waits for no fill: a thread that is in one ends with the process."""
        for lane in (self._quick, self._slow):
            lane.shutdown(wait=False, cancel_futures=True)

    def _fill_quick(self, tickets: Sequence[MaskTicket], batch: _Batch) -> None:
        for ticket in tickets:
            ticket.fill(self._clock)
        if batch.finish():
            self._wake()

    def _fill_slow(self, ticket: MaskTicket) -> None:
        ticket.fill(self._clock)
        self._wake()


class _Batch:
    """The quick fills of one step, and whether the scheduler still waits for them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._is_done = False
        self._is_left = False

    def finish(self) -> bool:
        """Whether nobody has waited so long."""
        with self._changed:
            self._is_done = True
            self._changed.notify()
            return self._is_left

    def wait(self, is_over: Callable[[], bool]) -> None:
        with self._changed:
            end: float | None = None
            while not self._changed.wait_for(lambda: self._is_done, LOOK_S):
                now = self._clock.now()
                if end is None and is_over():
                    end = now + GRACE_S
                if end is not None and now >= end:
                    break
            self._is_left = not self._is_done
