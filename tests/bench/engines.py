"""An engine in this process, driven in two ways: by requests of token ids, or by programs.

Both start from a cold prefix cache, keep a tape, and can be asked for the cache's books.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from furcate.lang.backend.inprocess import EngineChannel
from furcate.lang.backend.session import Session
from furcate.protocol.codec import encode
from furcate.protocol.constraint import Constraint
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import (
    Append,
    DefineConstraint,
    End,
    Extend,
    Generate,
    OpenStream,
)
from furcate.runtime import launch
from furcate.runtime.server.text import load_text

from .tape import Tape, TapedScheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from furcate.protocol.message import Event, Request, Welcome
    from furcate.protocol.stream import EngineRequest
    from furcate.runtime.cache.stats import CacheStats

    from .workloads import TokenRequest

__all__ = ["ProgramEngine", "TokenEngine", "cool"]

WAIT_S = 60.0  # for a constraint to be compiled


def cool(scheduler: TapedScheduler) -> CacheStats:
    """Empties the prefix cache of an idle scheduler; the books afterwards."""
    cache = scheduler.scheduler.batcher.cache
    cache.evict(cache.pool.total)
    return cache.stats()


class TokenEngine:
    """Runs requests of token ids on the scheduler itself, in the caller's thread."""

    def __init__(self, model: str, **options: str | int | bool) -> None:
        config = launch.configure({"model": model, **options})
        self.codec = load_text(config.model).codec
        self.tape = Tape()
        self._woken = threading.Event()
        scheduler = launch.build_scheduler(config, self._woken.set, self.codec)
        self.scheduler = TapedScheduler(scheduler, self.tape)
        self._num_streams = 0
        self._constraints: dict[str, int] = {}

    def run(self, requests: Sequence[TokenRequest]) -> list[tuple[int, ...]]:
        """The output of each request; all are there from the first step on."""
        self.tape.clear()
        self.scheduler.handle([message for r in requests for message in self._messages(r)])
        while not self.tape.all_ended:
            if not self.scheduler.has_work:
                assert self._woken.wait(WAIT_S), "a constraint has not been compiled in time"
                self._woken.clear()
            self.scheduler.step()
        if self.tape.failures:
            raise RuntimeError(f"requests failed: {self.tape.failures[0]}")
        return self.tape.generated()

    def _messages(self, request: TokenRequest) -> list[EngineRequest]:
        messages: list[EngineRequest] = []
        key = None
        if request.schema is not None:
            key = self._constraints.get(request.schema)
        if request.schema is not None and key is None:
            key = self._constraints[request.schema] = len(self._constraints)
            constraint = Constraint(kind="json_schema", body=request.schema)
            messages.append(DefineConstraint(key, constraint))
        generate = Generate(
            Sampling(max_tokens=request.max_tokens, temperature=0.0, ignore_eos=key is None),
            seed=0,
            stop_ids=() if key is None else tuple(sorted(self.codec.eos_ids)),
            constraint=key,
        )
        stream, self._num_streams = self._num_streams, self._num_streams + 1
        nodes = (Extend(request.ids), generate, End())
        return [*messages, OpenStream(stream, program=stream), Append(stream, nodes)]

    def close(self) -> None:
        self.scheduler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _CountingChannel:
    """A channel that counts the bytes its requests have on a socket."""

    def __init__(self, channel: EngineChannel) -> None:
        self.num_bytes_sent = 0
        self._channel = channel

    def open(
        self, deliver: Callable[[Sequence[Event]], None], lost: Callable[[Exception], None]
    ) -> Welcome:
        return self._channel.open(deliver, lost)

    def send(self, requests: Sequence[Request]) -> None:
        self.num_bytes_sent += len(encode(requests))
        self._channel.send(requests)

    def close(self) -> None:
        self._channel.close()


class ProgramEngine(Session):
    """A backend for programs: the whole runtime in this process, with a tape in its engine."""

    def __init__(self, model: str, **options: str | int | float | bool | None) -> None:
        config = launch.configure({"model": model, **options})
        self.tape = Tape()
        self.codec, template = load_text(config.model)

        def build(wake: Callable[[], None]) -> TapedScheduler:
            scheduler = launch.build_scheduler(config, wake, self.codec)
            self.scheduler = TapedScheduler(scheduler, self.tape)
            return self.scheduler

        channel = EngineChannel.over(
            lambda deliver, lost: launch.local_runtime_for(
                build, self.codec, template, deliver, lost
            )
        )
        super().__init__(_CountingChannel(channel))

    def wait_until_idle(self, timeout_s: float = 10.0) -> None:
        """Until every stream has ended: programs are over a little before their streams are."""
        deadline_s = time.monotonic() + timeout_s
        while self.scheduler.has_work or not self.tape.all_ended:
            assert time.monotonic() < deadline_s, "the engine does not come to rest"
            time.sleep(0.001)
