"""What the cache is told of the next use of a stream's tokens, while the stream does not run.

Knows streams, their hints and pins. What is evicted, and when, is the cache's matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.runtime.cache import Lease, NextUse, Pending

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.stream import Pin
    from furcate.runtime.cache import Expectation, KVCache
    from furcate.runtime.clock import Clock

    from .stream import Stream

__all__ = ["Prospects"]


@dataclass(slots=True)
class _Pinned:
    """What keeps it: a lease of its own, which nobody can take pages from, or a word that it is to
    go last."""

    held: Lease | Expectation
    num_tokens: int
    end: float | None  # of its time


class Prospects:
    """The owner of all expectations: one for each stream that rests or waits, one for each pin.
    Pins may have `max_pinned` tokens together, those that several have counted for each."""

    def __init__(self, cache: KVCache, clock: Clock, max_pinned: int) -> None:
        self.max_pinned = max_pinned
        self._cache = cache
        self._clock = clock
        self._streams: dict[Stream, Expectation] = {}
        self._pins: dict[int, _Pinned] = {}

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

    def pin(self, node: Pin, stream: Stream, lease: Lease) -> bool:
        """Keeps what is in the tree of the stream's tokens; False, and nothing kept, where that is
        more than may be pinned."""
        self.unpin(node.pin)
        end = None if node.ttl_s is None else self._clock.now() + node.ttl_s
        if self.num_pinned + lease.inserted > self.max_pinned:
            return False
        if lease.inserted:
            held = self._hold(stream, lease) if node.strict else self._expect(lease)
            self._pins[node.pin] = _Pinned(held, lease.inserted, end)
        return True

    def _hold(self, stream: Stream, lease: Lease) -> Lease | Expectation:
        held = self._cache.open(stream.tokens, stream.namespace, lease.inserted)
        return self._expect(lease) if isinstance(held, Pending) else held

    def _expect(self, lease: Lease) -> Expectation:
        return self._cache.expect(lease, NextUse.PINNED)

    def loosen(self) -> None:
        """Pages are so short that pins give way where nothing else can."""
        for pinned in self._pins.values():
            if isinstance(pinned.held, Lease):
                lease, pinned.held = pinned.held, self._expect(pinned.held)
                self._cache.release(lease)

    def unpin(self, pin: int) -> None:
        """Idempotent."""
        found = self._pins.pop(pin, None)
        if found is None:
            return
        if isinstance(found.held, Lease):
            self._cache.release(found.held)
        else:
            self._cache.forget(found.held)

    def expire(self) -> None:
        """Ends the pins whose time is over."""
        ends = {pin: pinned.end for pin, pinned in self._pins.items() if pinned.end is not None}
        if not ends:
            return
        now = self._clock.now()
        for pin in [pin for pin, end in ends.items() if end <= now]:
            self.unpin(pin)

    def unpin_all(self) -> None:
        for pin in list(self._pins):
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

    @property
    def num_pinned(self) -> int:
        """Tokens."""
        return sum(pinned.num_tokens for pinned in self._pins.values())
