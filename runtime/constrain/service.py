"""The compile service: constraints in, grammars or errors out, nobody waits.

A request looks in the cache, joins a compilation under way, or queues one. One thread talks to one
worker process (started with the first constraint); a worker that dies or takes too long costs the
one request it worked on. The scheduler polls `Ticket.ready`, or is woken by `on_ready`. Knows no
streams.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from furcate.errors import BackendError, ConstraintError, FurcateError, Overloaded
from furcate.runtime.clock import Clock, MonotonicClock

from .cache import GrammarCache
from .channel import Compiled, Job, Refused, Reply, Setup
from .compile import compile_proved, load_recipe
from .grammar import CompiledGrammar, Toolkit
from .recipe import check_body, prepare
from .vocabulary import EngineVocabulary, Vocabulary
from .worker_process import WorkerLost, WorkerProcess, WorkerTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from furcate.protocol.constraint import Constraint

    from .base import Grammar

__all__ = ["CompileLimits", "CompileService", "Ticket"]


@dataclass(frozen=True, slots=True)
class CompileLimits:
    """`cpu_s`, `wall_s` and `memory_bytes` are for one compilation, the rest for the service."""

    cpu_s: float = 5.0
    wall_s: float = 10.0
    memory_bytes: int = 1 << 30
    start_s: float = 30.0
    cache_bytes: int = 256 << 20
    max_waiting: int = 256


@dataclass(slots=True, eq=False)
class Ticket:
    """A request's place. The service sets `grammar` or `error`, then `ready`."""

    constraint: Constraint
    key: str = ""  # the service fills it for a body that it can compile
    grammar: Grammar | None = None
    error: FurcateError | None = None
    _done: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def ready(self) -> bool:
        return self._done.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Blocks until ready; for callers that have nothing else to do."""
        return self._done.wait(timeout_s)

    def _settle(self, outcome: Grammar | FurcateError) -> None:
        if isinstance(outcome, FurcateError):
            self.error = outcome
        else:
            self.grammar = outcome
        self._done.set()


class CompileService:
    """Compiles for one vocabulary. `request` and `close` may be called from any thread.

    `on_ready` is called once for each ticket that was not ready when `request` returned it, from
    the service's thread; it must not block. With `workers=False` everything happens within
    `request`, without limits on time and memory: for tests and trusted constraints.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        vocab_size: int,
        *,
        on_ready: Callable[[Ticket], None] | None = None,
        limits: CompileLimits | None = None,
        workers: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self._limits = limits or CompileLimits()
        self._toolkit = Toolkit(EngineVocabulary(vocabulary, vocab_size))
        self._on_ready = on_ready
        self._has_workers = workers
        self._clock: Clock = clock or MonotonicClock()
        self._cache = GrammarCache(self._limits.cache_bytes)
        self._waiting: deque[Ticket] = deque()
        self._in_flight: dict[str, Ticket] = {}
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._worker: WorkerProcess | None = None  # set and read by the thread, killed by close
        self._is_closed = False
        self.num_worker_starts = 0

    @property
    def cache(self) -> GrammarCache:
        return self._cache

    @property
    def worker_pid(self) -> int | None:
        """The process that compiles, None while there is none."""
        worker = self._worker
        return None if worker is None else worker.pid

    def request(self, constraint: Constraint) -> Ticket:
        """A ticket, ready at once where the answer is known. Never blocks with workers."""
        ticket = Ticket(constraint)
        try:
            check_body(constraint)
        except ConstraintError as error:
            ticket._settle(error)
            return ticket
        ticket.key = self._key(constraint)
        known = self._cache.get(ticket.key)
        if known is not None:
            ticket._settle(known)
            return ticket
        if not self._has_workers:
            self._finish(ticket, self._compile_here(constraint))
            return ticket
        return self._enqueue(ticket)

    def close(self) -> None:
        """Ends the worker; what waits is refused. Twice is as good as once."""
        with self._wake:
            self._is_closed = True
            self._wake.notify()
            thread, worker = self._thread, self._worker
        if worker is not None:
            worker.kill()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _key(self, constraint: Constraint) -> str:
        digest = hashlib.sha256(msgspec.msgpack.encode(constraint))
        digest.update(self._toolkit.vocabulary.fingerprint.encode())
        return digest.hexdigest()

    def _enqueue(self, ticket: Ticket) -> Ticket:
        with self._wake:
            if (under_way := self._in_flight.get(ticket.key)) is not None:
                return under_way
            if self._is_closed or len(self._waiting) >= self._limits.max_waiting:
                reason = "is closed" if self._is_closed else f"has {len(self._waiting)} waiting"
                ticket._settle(Overloaded(f"the compile service {reason}; try again later"))
                return ticket
            self._in_flight[ticket.key] = ticket
            self._waiting.append(ticket)
            self._start_thread()
            self._wake.notify()
        return ticket

    def _start_thread(self) -> None:
        if self._thread is None and not self._is_closed:
            self._thread = threading.Thread(target=self._run, name="furcate-compile", daemon=True)
            self._thread.start()

    # Everything below runs in the service's thread.

    def _run(self) -> None:
        try:
            self._ensure_worker()
            self._build_engines()
            while (ticket := self._next_ticket()) is not None:
                outcome = self._compile_in_worker(ticket.constraint)
                if self._is_closed:
                    break  # its worker was killed from outside; `_refuse_all` answers
                self._finish(ticket, outcome)
                self._ensure_worker()  # a replacement starts while nobody waits
        finally:
            self._refuse_all()
            self._drop_worker()

    def _build_engines(self) -> None:
        """While the worker starts. The larger engine only if the constraint that waits needs it."""
        _ = self._toolkit.vocabulary.llguidance
        if self._waiting[0].constraint.kind not in ("regex", "lark"):
            _ = self._toolkit.vocabulary.xgrammar

    def _next_ticket(self) -> Ticket | None:
        with self._wake:
            self._wake.wait_for(lambda: self._waiting or self._is_closed)
            return None if self._is_closed else self._waiting.popleft()

    def _refuse_all(self) -> None:
        with self._wake:
            self._is_closed = True
            abandoned = list(self._in_flight.values())
            self._waiting.clear()
            self._in_flight.clear()
        for ticket in abandoned:
            self._announce(ticket, Overloaded("the compile service is closed; try again later"))

    def _finish(self, ticket: Ticket, outcome: _Outcome) -> None:
        if outcome.is_lasting and not isinstance(outcome.value, BackendError):
            self._cache.put(ticket.key, outcome.value)
        with self._wake:
            self._in_flight.pop(ticket.key, None)
        self._announce(ticket, outcome.value)

    def _announce(self, ticket: Ticket, value: Grammar | FurcateError) -> None:
        ticket._settle(value)
        if self._on_ready is not None and self._has_workers:
            self._on_ready(ticket)

    def _ensure_worker(self) -> WorkerProcess:
        if self._worker is None:
            vocabulary = self._toolkit.vocabulary
            setup = Setup(
                table=vocabulary.table,
                vocab_size=vocabulary.vocab_size,
                fingerprint=vocabulary.source.fingerprint,
                parent_pid=os.getpid(),
                cpu_s=self._limits.cpu_s,
                memory_bytes=self._limits.memory_bytes,
            )
            self._worker = WorkerProcess(msgspec.msgpack.encode(setup), self._clock)
            self.num_worker_starts += 1
        return self._worker

    def _drop_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def _compile_in_worker(self, constraint: Constraint) -> _Outcome:
        try:
            worker = self._ensure_worker()
            worker.wait_for_start(self._limits.start_s)
        except (WorkerTimeout, WorkerLost, OSError) as error:
            self._drop_worker()
            return _Outcome(
                BackendError(f"no compile worker could be started: {error!r}; try again")
            )
        try:
            payload = worker.ask(msgspec.msgpack.encode(Job(constraint)), self._limits.wall_s)
            reply: Reply = msgspec.msgpack.decode(payload, type=Reply)
        except WorkerTimeout:
            self._drop_worker()
            return _Outcome(_too_complex(f"not compiled after {self._limits.wall_s} s"))
        except WorkerLost as loss:
            self._drop_worker()
            return _Outcome(_too_complex("the compiler ended"), is_lasting=loss.is_own_doing)
        except ValueError as error:  # not a message
            self._drop_worker()
            return _Outcome(_too_complex(f"the compiler is broken ({error})"), is_lasting=False)
        if isinstance(reply, Refused):
            return _Outcome(ConstraintError(reply.message, reply.pointer))
        return self._load(reply)

    def _load(self, compiled: Compiled) -> _Outcome:
        try:
            return _Outcome(load_recipe(compiled.recipe, compiled.serialized, self._toolkit))
        except ConstraintError as error:
            return _Outcome(error)

    def _compile_here(self, constraint: Constraint) -> _Outcome:
        try:
            return _Outcome(compile_proved(prepare(constraint), self._toolkit))
        except ConstraintError as error:
            return _Outcome(error)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A result, and whether the same constraint would have it again."""

    value: CompiledGrammar | ConstraintError | BackendError
    is_lasting: bool = True


def _too_complex(reason: str) -> ConstraintError:
    return ConstraintError(f"the constraint is too complex to compile: {reason}; simplify it")
