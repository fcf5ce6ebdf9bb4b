"""The streams that wait to run, in the order in which they are to.

Higher priorities first, within one the order of a policy, siblings of a fork one after the other;
and from time to time, whatever all that says, who has waited longest. Does not know how much room
there is.
"""

from __future__ import annotations

from collections import OrderedDict
from operator import itemgetter
from typing import TYPE_CHECKING, Generic

from .policies.base import Policy, WaitingStream

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

__all__ = ["AGING_TOKENS", "WaitingQueue"]

# As soon as so many tokens have been served since it was last so, the stream that has waited
# longest is the next. A handful of streams take as many: so one in several goes by age alone.
AGING_TOKENS = 8192
MAX_EMPTY_LEVELS = 16
MAX_OWED = 256


class WaitingQueue(Generic[WaitingStream]):
    """`make_policy` makes the order within one priority.

    The bound on waiting: a stream behind k others by age is the next to run at the latest when
    (k + 1) * `aging_tokens` tokens have been served, whatever arrives.
    """

    def __init__(
        self,
        make_policy: Callable[[], Policy[WaitingStream]],
        aging_tokens: int = AGING_TOKENS,
    ) -> None:
        self._make_policy = make_policy
        self._aging_tokens = aging_tokens
        self._levels: dict[int, Policy[WaitingStream]] = {}  # by priority
        self._by_age: OrderedDict[WaitingStream, int] = OrderedDict()  # its priority as it came
        self._gangs: dict[Hashable, OrderedDict[WaitingStream, None]] = {}
        self._num_served = 0  # tokens since the longest waiting stream left
        self._owed: dict[WaitingStream, int] = {}  # tokens that the levels were not told of yet

    def __len__(self) -> int:
        return len(self._by_age)

    def __contains__(self, stream: WaitingStream) -> bool:
        return stream in self._by_age

    def __iter__(self) -> Iterator[WaitingStream]:
        """By the time they have waited, the longest first."""
        return iter(self._by_age)

    def add(self, stream: WaitingStream) -> None:
        assert stream not in self._by_age, f"stream {stream.id} waits twice"
        self._settle()
        if not self._by_age:
            self._num_served = 0
        self._by_age[stream] = stream.priority
        self._level(stream.priority).add(stream)
        if stream.gang is not None:
            self._gangs.setdefault(stream.gang, OrderedDict())[stream] = None

    def remove(self, stream: WaitingStream) -> None:
        """It runs now, or wants nothing any more."""
        if next(iter(self._by_age)) is stream:
            self._num_served = 0
        priority = self._by_age.pop(stream)
        level = self._levels[priority]
        level.remove(stream)
        if not level and len(self._levels) > MAX_EMPTY_LEVELS:
            del self._levels[priority]
        if stream.gang is not None:
            gang = self._gangs[stream.gang]
            del gang[stream]
            if not gang:
                del self._gangs[stream.gang]

    def update(self, stream: WaitingStream) -> None:
        """Something that its place depends on has changed, but for its priority and gang. It keeps
        its age."""
        level = self._levels[self._by_age[stream]]
        level.remove(stream)
        level.add(stream)

    def served(self, stream: WaitingStream, num_tokens: int) -> None:
        """So many tokens are computed for a stream, whether it waits or runs. Called for each row
        of each step, so it only takes note."""
        self._owed[stream] = self._owed.get(stream, 0) + num_tokens
        if len(self._owed) > MAX_OWED:
            self._settle()

    def candidates(self) -> Iterator[WaitingStream]:
        """Each stream once, the next to run first. To be called anew for each step.

        Streams may be removed and served while this goes on, and that tells in what comes next. A
        stream that is left in the queue is passed over.
        """
        self._settle()
        passed: set[WaitingStream] = set()
        for stream in self._in_order():
            if stream not in self._by_age or stream in passed:
                continue
            yield stream
            self._settle()
            gang: OrderedDict[WaitingStream, None] | None = None
            if stream in self._by_age:
                passed.add(stream)
            elif stream.gang is not None:
                gang = self._gangs.get(stream.gang)
            while gang:  # its siblings, up to the first that is left in the queue
                sibling = next(iter(gang))
                if sibling in passed:
                    break
                yield sibling
                self._settle()
                if sibling in self._by_age:
                    passed.add(sibling)
                    break

    def _in_order(self) -> Iterator[WaitingStream]:
        if self._by_age and self._num_served >= self._aging_tokens:
            yield next(iter(self._by_age))
        for _, level in sorted(self._levels.items(), reverse=True, key=itemgetter(0)):
            yield from level.ordered()

    def _settle(self) -> None:
        for stream, num_tokens in self._owed.items():
            self._num_served += num_tokens
            level = self._levels.get(stream.priority)
            if level is not None:
                level.served(stream, num_tokens)
        self._owed.clear()

    def _level(self, priority: int) -> Policy[WaitingStream]:
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = self._make_policy()
        return level
