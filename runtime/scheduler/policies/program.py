"""Programs in mind: tenants share the machine, the least served program of one goes first, and
within a program who holds up most.

Does not know how a path or a deadline is estimated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import WaitingStream
from .deadlines import UrgentFirst
from .fair_shares import FairShares, Share
from .keyed import Keyed
from .longest_prefix import LongestPrefix

if TYPE_CHECKING:
    from .base import Policy, Surroundings

__all__ = ["FINISH_TOKENS", "LOOKAHEAD", "QUANTUM_TOKENS", "program_aware"]

# Programs that are no further apart go by age: one that has begun gets on while what it has in the
# cache is still there, and gives way to others when it has had so much more than they.
QUANTUM_TOKENS = 4096
# A program at its last node goes as if it had got so much less: before new ones, which start with
# the least of all, but not for ever.
FINISH_TOKENS = QUANTUM_TOKENS
LOOKAHEAD = 4  # streams among which the cached prefix decides


def program_aware(surroundings: Surroundings[WaitingStream]) -> Policy[WaitingStream]:
    """Deadlines about to be missed; then fairness between tenants; the least attained service of a
    program, by quanta, and the older program; the longer path to its end; waited-for values;
    arrival. Among the first few of these, the longest cached prefix."""

    def streams() -> Policy[WaitingStream]:
        return Keyed(lambda stream: (-stream.path, -stream.num_waiting, stream.arrival))

    def programs() -> Policy[WaitingStream]:
        return FairShares(lambda stream: stream.program, streams, _favour, QUANTUM_TOKENS)

    tenants = FairShares[WaitingStream](lambda stream: stream.namespace, programs)
    nearby = LongestPrefix(tenants, surroundings.cached_prefix, LOOKAHEAD)
    return UrgentFirst(nearby, surroundings)


def _favour(share: Share[WaitingStream]) -> int:
    """For a program that has begun, and is one node from its end."""
    if not share.attained:
        return 0
    first = next(share.line.ordered(), None)
    return FINISH_TOKENS if first is not None and first.path == 0 else 0
