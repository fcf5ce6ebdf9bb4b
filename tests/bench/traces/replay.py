"""A trace on the real cache, with leases and expectations as a scheduler takes and registers them.

Every start and every stop is a step that completes at once: the trace says who runs side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from furcate.runtime.cache import KVCache, Lease, NextUse

from .trace import Hint, Start, tokens_of

if TYPE_CHECKING:
    from array import array

    from furcate.runtime.cache import CacheStats, Eviction, Expectation

    from .trace import Next, Trace, Turn

__all__ = ["OutOfRoomError", "replay"]


class OutOfRoomError(RuntimeError):
    """The turns that run at the same time do not fit the cache together: it is too small."""


@dataclass(slots=True)
class Replay:
    cache: KVCache
    use_hints: bool
    step: int = 0
    leases: dict[int, Lease] = field(default_factory=dict)  # by stream, while it runs
    expected: dict[int, Expectation] = field(default_factory=dict)  # by stream, while it rests

    def start(self, turn: Turn) -> None:
        prompt = tokens_of(turn.prompt)
        lease = self.cache.open(prompt, owner=turn.program)
        assert isinstance(lease, Lease), "every step is complete"
        self.leases[turn.stream] = lease
        if turn.stream in self.expected:
            self.cache.forget(self.expected.pop(turn.stream))
        self.compute(lease, prompt)

    def stop(self, turn: Turn) -> None:
        lease = self.leases.pop(turn.stream)
        self.compute(lease, tokens_of((*turn.prompt, turn.output)))
        is_dead = self.use_hints and turn.then.use is NextUse.DEAD
        if self.use_hints and not is_dead:
            expectation = self.cache.expect(lease, turn.then.use, turn.then.at)
            self.expected[turn.stream] = expectation
        self.cache.release(lease, dead=is_dead)

    def hint(self, stream: int, then: Next) -> None:
        if stream not in self.expected:
            return
        if then.use is NextUse.DEAD:
            self.cache.forget(self.expected.pop(stream), dead=True)
        else:
            self.cache.revise(self.expected[stream], then.use, then.at)

    def compute(self, lease: Lease, tokens: array[int]) -> None:
        self.step += 1
        if self.cache.extend(lease, len(tokens), self.step) is None:
            raise OutOfRoomError(f"{len(tokens)} tokens of one turn find no room")
        self.cache.insert(lease, tokens, len(tokens), self.step)
        self.cache.retire(self.step)


def replay(
    trace: Trace, num_pages: int, page_size: int, eviction: Eviction, *, use_hints: bool = True
) -> CacheStats:
    """The books of the cache after the whole trace. Without hints nothing is said about next uses,
    nor that something is dead."""
    run = Replay(KVCache(num_pages, page_size, eviction), use_hints)
    for event in trace.events():
        if isinstance(event, Hint):
            run.hint(event.stream, event.then)
        elif isinstance(event, Start):
            run.start(event.turn)
        else:
            run.stop(event.turn)
    run.cache.check()
    return run.cache.stats()
