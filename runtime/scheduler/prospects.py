"""What the cache is told of the next use of a stream's tokens, while the stream does not run.

Knows streams, their hints and pins. What is evicted, and when, is the cache's matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.runtime.cache import NextUse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.stream import Pin
    from furcate.runtime.cache import Expectation, KVCache, Lease
    from furcate.runtime.clock import Clock

    from .stream import Stream

__all__ = ["Prospects"]


class Prospects:
    """The owner of all expectations: one for each stream that rests or waits, one for each pin."""

    def __init__(self, cache: KVCache, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock
        self._streams: dict[Stream, Expectation] = {}
        self._pins: dict[int, tuple[Expectation, float | None]] = {}  # with the end of its time

    # Streams -------------------------------------------------------------------------------------

    def leave(self, stream: Stream, lease: Lease) -> None:
        """The stream gives up its lease, and is not at its end."""
        if lease.inserted:
            use, at = self._use(stream)
            self._streams[stream] = self._cache.expect(lease, use, at)

    def hinted(self, stream: Stream) -> None:
        """Something about the stream's next use has changed."""
        expectation = self._streams.get(stream)
        if expectation is not None:
            self._cache.revise(expectation, *self._use(stream))

    def back(self, stream: Stream) -> None:
        """The stream holds a lease again. Idempotent."""
        expectation = self._streams.pop(stream, None)
        if expectation is not None:
            self._cache.forget(expectation)

    def end(self, stream: Stream) -> None:
        """The stream is at its end and holds no lease. Idempotent."""
        expectation = self._streams.pop(stream, None)
        if expectation is not None:
            self._cache.forget(expectation, dead=stream.is_dead)

    def _use(self, stream: Stream) -> tuple[NextUse, float | None]:
        hint = stream.hint
        if stream.target or hint.next_use == "scheduled":  # queued, or nodes of it are recorded
            return NextUse.SCHEDULED, float(stream.arrival)
        if hint.next_use == "dead":
            return NextUse.UNKNOWN, None  # until its end, which is near
        at = None if hint.expect_s is None else self._clock.now() + hint.expect_s
        return NextUse.IDLE, at

    # Pins ----------------------------------------------------------------------------------------

    def pin(self, node: Pin, lease: Lease) -> None:
        """Keeps what is in the tree of the lease's positions."""
        self.unpin(node.pin)
        end = None if node.ttl_s is None else self._clock.now() + node.ttl_s
        if lease.inserted:
            self._pins[node.pin] = (self._cache.expect(lease, NextUse.PINNED), end)

    def unpin(self, pin: int) -> None:
        """Idempotent."""
        found = self._pins.pop(pin, None)
        if found is not None:
            self._cache.forget(found[0])

    def expire(self) -> None:
        """Ends the pins whose time is over."""
        if not any(end is not None for _, end in self._pins.values()):
            return
        now = self._clock.now()
        for pin in [pin for pin, (_, end) in self._pins.items() if end is not None and end <= now]:
            self.unpin(pin)

    def check(self, streams: Sequence[Stream]) -> None:
        """AssertionError unless they are of living streams without a lease; for tests."""
        living = {id(stream) for stream in streams if stream.lease is None}
        assert all(id(stream) in living for stream in self._streams), "a stream is expected twice"

    @property
    def num_streams(self) -> int:
        """That rest or wait, with tokens in the tree."""
        return len(self._streams)

    @property
    def num_pins(self) -> int:
        return len(self._pins)
