"""Fair shares: who has attained the least service goes first, be it tenants or programs.

Service is counted in computed tokens and is compared as virtual time: a newcomer starts where the
least served of those who wait is, and whoever comes back has lost all but a little of what it did
not use. So nobody starves, and nobody saves up credit. Does not know in which order the streams of
one claimant go.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from furcate.runtime.scheduler.lazy_heap import LazyHeap

from .base import Policy, WaitingStream

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

__all__ = ["FairShares", "Share"]

CREDIT_TOKENS = 1024  # that one who comes back may have left: about the prompt of one turn
MAX_IDLE = 4096  # claimants that are remembered while nothing of theirs waits


@dataclass(slots=True, eq=False)
class Share(Generic[WaitingStream]):
    """One claimant, with the `arrival` of its first stream. `attained` counts its tokens; `service`
    is the same as virtual time; `favour` is how many tokens earlier it goes for now."""

    line: Policy[WaitingStream]
    arrival: int
    service: int
    attained: int = 0
    favour: int = 0

    @property
    def due(self) -> int:
        return self.service - self.favour


class FairShares(Generic[WaitingStream]):
    """`claimant` of a stream, a policy for those of one claimant from `make_line`, and what a
    claimant is favoured by, asked when its streams change. Service is compared in units of
    `quantum` tokens: among claimants that are no further apart the older one goes on."""

    def __init__(
        self,
        claimant: Callable[[WaitingStream], Hashable],
        make_line: Callable[[], Policy[WaitingStream]],
        favour: Callable[[Share[WaitingStream]], int] = lambda share: 0,
        quantum: int = 1,
    ) -> None:
        self._claimant = claimant
        self._make_line = make_line
        self._favour = favour
        self._shares: dict[Hashable, Share[WaitingStream]] = {}
        self._idle: OrderedDict[Hashable, None] = OrderedDict()
        self._by_rank = LazyHeap[Share[WaitingStream]](
            lambda share: (share.due // quantum, share.arrival)
        )
        self._least = 0  # service of those who wait, less what they are favoured by
        self._most = 0  # service of anybody
        self._num_streams = 0

    def __len__(self) -> int:
        return self._num_streams

    def add(self, stream: WaitingStream) -> None:
        name = self._claimant(stream)
        share = self._shares.get(name)
        if share is None:
            share = self._shares[name] = Share(self._make_line(), stream.arrival, self._start())
        elif not share.line:
            share.service = max(share.service, self._start() - CREDIT_TOKENS)
            self._idle.pop(name, None)
        share.line.add(stream)
        self._num_streams += 1
        self._place(share)

    def remove(self, stream: WaitingStream) -> None:
        name = self._claimant(stream)
        share = self._shares[name]
        share.line.remove(stream)
        self._num_streams -= 1
        if share.line:
            self._place(share)
            return
        self._by_rank.discard(share)
        self._idle[name] = None
        if len(self._idle) > MAX_IDLE:
            del self._shares[self._idle.popitem(last=False)[0]]

    def served(self, stream: WaitingStream, num_tokens: int) -> None:
        share = self._shares.get(self._claimant(stream))
        if share is not None:
            share.service += num_tokens
            share.attained += num_tokens
            self._most = max(self._most, share.service)
            share.line.served(stream, num_tokens)

    def ordered(self) -> Iterator[WaitingStream]:
        return self._by_rank.walk(lambda share: share.line.ordered())

    def attained(self, name: Hashable) -> int:
        """Tokens computed for the claimant, as far as it is remembered."""
        share = self._shares.get(name)
        return 0 if share is None else share.attained

    def _start(self) -> int:
        """Where a newcomer starts: with the least of those who wait. Where nobody waits nothing is
        being shared, and what others got till now is no reason to go before them."""
        first = self._by_rank.first()
        self._least = max(self._least, self._most if first is None else first.due)
        return self._least

    def _place(self, share: Share[WaitingStream]) -> None:
        favour = self._favour(share)
        has_risen = favour > share.favour
        share.favour = favour
        if has_risen or share not in self._by_rank:
            self._by_rank.push(share)
