"""What streams hold of the cache, what they will still take, and who fits in with them.

Applies the future peak to streams and leases. Does not know in which order streams come up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .admission import Demand, FuturePeak
from .leases import num_kept, num_shared, will_copy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from furcate.runtime.cache import KVCache, Lease

    from .generation import Generation
    from .sites import Sites
    from .stream import Stream

__all__ = ["Forecast"]

RESERVE = 20  # one page in so many is kept for outputs that get longer than foreseen
GOLDEN = (5**0.5 - 1) / 2  # multiples of it, modulo 1, are spread evenly wherever one looks


class Forecast:
    """Asked for one stream after the other that might join those who run. `limit` is the most
    tokens that a stream can have."""

    def __init__(self, cache: KVCache, sites: Sites, limit: int) -> None:
        self._cache = cache
        self._sites = sites
        self._limit = limit
        self._refused: Stream | None = None
        self._growth: int | None = None  # pages that those who run take more by their bounds

    def begin(self) -> None:
        """A new step: streams have grown, as was foreseen."""
        self._growth = None

    def freed(self) -> None:
        """A running stream has let go of pages."""
        self._growth = None
        self._refused = None

    def joined(self, stream: Stream, lease: Lease) -> None:
        """The stream runs and has pages for its next tokens."""
        if self._growth is not None:
            self._growth += self._growth_of(stream, lease)

    def is_refused(self, stream: Stream) -> bool:
        """It did not fit, and nobody has let go of pages since."""
        return stream is self._refused

    def fits(self, stream: Stream, lease: Lease, running: Sequence[Stream]) -> bool:
        """Whether the stream, whose lease has what is cached of it, and those who run will never
        need more pages than there are."""
        if self._fits_at_worst(stream, lease, running) or self._fits_peak(stream, lease, running):
            return True
        self._refused = stream
        return False

    def cheapest(self, running: Iterable[Stream]) -> Stream | None:
        """Of the lowest priority among these, the one with the fewest tokens to compute again if it
        gives way, of those that no other one keeps; preferably not one that would free nothing."""
        costs = [(self._cost(stream), stream) for stream in running]
        ranks = [(not cost, s.priority, cost, -s.arrival, s.id, s) for cost, s in costs]
        return min(ranks)[-1] if ranks else None

    def _cost(self, stream: Stream) -> int:
        lease = stream.lease
        assert lease is not None
        return max(0, stream.computed - num_kept(lease))

    def _fits_at_worst(self, stream: Stream, lease: Lease, running: Sequence[Stream]) -> bool:
        """Quick, and enough: there is room even if nobody leaves."""
        if self._growth is None:
            leases = ((each, each.lease) for each in running)
            self._growth = sum(self._growth_of(s, held) for s, held in leases if held is not None)
        return self._growth + self._growth_of(stream, lease) <= self._cache.num_available

    def _fits_peak(self, stream: Stream, lease: Lease, running: Sequence[Stream]) -> bool:
        page_size = self._cache.page_size
        held = [(each, each.lease) for each in running if each.lease is not None]
        num_private, demands = 0, []
        for each, its in (*held, (stream, lease)):
            num_others = num_shared(its, page_size)
            if will_copy(its, page_size):  # and hold its tail page besides the copy
                num_others = min(num_others, len(its.table) - 1)
                num_private -= 1
            num_private += len(its.table) - num_others
            demands.append(self._demand(each, its, num_others))
        in_use = self._cache.pool.total - self._cache.num_available
        peak = FuturePeak(page_size, demands).pages()
        return in_use - num_private + peak + peak // RESERVE <= self._cache.pool.total

    def _demand(self, stream: Stream, lease: Lease, num_others: int) -> Demand:
        length = max(lease.length, len(stream.tokens))
        return Demand(length, max(0, self._bound(stream) - length), num_others)

    def _growth_of(self, stream: Stream, lease: Lease) -> int:
        bound = self._bound(stream)
        if bound <= lease.length:
            return 0
        num_pages = self._cache.pages_for(bound) - len(lease.table)
        return num_pages + will_copy(lease, self._cache.page_size)

    def _output(self, stream: Stream, active: Generation) -> int:
        """How long the output gets. Each stream has a place among those of its site: so a few are
        taken to be long and most not, as it will be, rather than all of them."""
        node = active.node
        if not (node.stop_ids or node.stops or node.sampling.stop_regex or active.matcher):
            return active.budget
        share = stream.arrival * GOLDEN % 1.0
        return self._sites.bound(node.site, active.budget, active.longest, active.index, share)

    def _bound(self, stream: Stream) -> int:
        """How many tokens the stream has when its active node is over, with those that are known to
        follow."""
        count = len(stream.tokens)
        active = stream.generation
        if active is not None:
            count += self._output(stream, active) - active.index
        elif stream.choice is not None:
            count += max(map(len, stream.choice.choices))
        count += sum(len(text.ids) for text in stream.texts_behind)
        return min(count, self._limit)
