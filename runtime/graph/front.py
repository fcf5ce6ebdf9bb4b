"""The front: between clients that speak text and graphs, and an engine that speaks token ids.

A state machine without sockets, threads and clocks. Its driver hands it what has arrived and the
time, and fetches what is to be sent: `handle`, `handle_engine` and `tick` in, `drain` out. The same
object serves clients over ZeroMQ and a program in the engine's own process.

The books of the front hold everything that an engine was told and has answered. So an engine that
ends can be followed by another: between `suspend` and the next EngineReady the front goes on taking
requests, then the new engine gets what is open, with known results in place of their generation.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from furcate.errors import ConnectionFailed, CrashSuspect
from furcate.protocol.message import PROTOCOL_VERSION
from furcate.protocol.stream import EngineFacts, EngineReady
from furcate.version import __version__

from .connection import Connection
from .desk import Desk
from .hints import send_hints
from .limits import Limits
from .setting import Setting

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from furcate.protocol.message import Request
    from furcate.protocol.stream import EngineEvent, NodeDone, StreamEnded, Tokens
    from furcate.runtime.tokenize.base import TextCodec
    from furcate.runtime.tokenize.template import ChatTemplate

    from .outbox import Outbox
    from .program import Program
    from .questions import Facts

__all__ = ["Front"]

log = logging.getLogger(__name__)


class Front:
    """`template` is None for a model without a chat template: a role is then that node's error.
    `started_at` is the time of whoever drives it. Without `hints` the engine is sent none."""

    def __init__(
        self,
        codec: TextCodec,
        template: ChatTemplate | None,
        ready: EngineReady,
        limits: Limits | None = None,
        started_at: float = 0.0,
        hints: bool = True,
    ) -> None:
        _check_ready(codec, ready)
        self._desk = Desk(Setting(codec, template, ready, limits or Limits()))
        self._desk.own_facts = self._facts
        self._started_at = started_at
        self._hints = hints
        self._connections: dict[Hashable, Connection] = {}

    def connect(self, client: Hashable) -> None:
        """A new connection: its tables are empty. Ends one of the same name."""
        self.disconnect(client)
        self._connections[client] = Connection(client, self._desk)

    def handle(self, client: Hashable, requests: Sequence[Request], now: float) -> None:
        """What a connected client has sent, in order."""
        self._desk.streams.now = now
        connection = self._connections[client]
        for request in requests:
            connection.receive(request, now)

    def handle_engine(self, events: Sequence[EngineEvent], now: float) -> None:
        """What the engine has sent, in order. An event that cannot be costs the program that it is
        about. Raises ConnectionFailed for an engine that is another than the one before."""
        self._desk.streams.now = now
        touched: dict[Program, None] = {}
        answers: list[EngineFacts] = []
        for event in events:
            if isinstance(event, EngineReady):
                self._engine_is_ready(event)
            elif isinstance(event, EngineFacts):
                answers.append(event)
            elif (program := self._desk.streams.program_of(event)) is not None:
                touched[program] = None
                self._receive(program, event)
        self._settle(touched)
        for answer in answers:
            self._desk.questions.answered(answer)

    def disconnect(self, client: Hashable) -> None:
        """The client has left or is gone: its programs are cancelled. Callable twice."""
        connection = self._connections.pop(client, None)
        if connection is not None:
            connection.close()
            self._desk.questions.forget(client)
            self._desk.outbox.to_clients.pop(client, None)

    def overload(self, client: Hashable, programs: set[int]) -> None:
        """The client does not read, and what it was to be told of these programs is lost: they fail
        as "overloaded", with all that it has running."""
        connection = self._connections.get(client)
        if connection is not None:
            connection.overload(programs)

    def is_closed(self, client: Hashable) -> bool:
        """The client has said Bye or was refused: drain once more, then close and disconnect."""
        connection = self._connections.get(client)
        return connection is None or connection.is_closed

    def suspend(self, message: str, in_flight: frozenset[int] | None = None) -> None:
        """The engine has ended and another will be started. Everything waits for it, but for the
        program that is to blame, if there is one: that one ends, and `message` says how the engine
        did. `in_flight` are the streams in its last forwards, if there were any and that is known:
        else any stream may be at fault. Changes nothing while there is no engine anyway."""
        desk = self._desk
        if not desk.outbox.has_engine or desk.lost is not None:
            return
        desk.outbox.lose_engine()
        had_streams = dict.fromkeys(program for program, _ in desk.streams)
        desk.streams.engine_ended()
        running = [each for each in desk.streams if not in_flight or each[1].id in in_flight]
        culprit = desk.suspects.engine_ended(running)
        desk.streams.held = desk.suspects.held
        if culprit is not None:
            why = f"the engine ended again and again while this program ran, at last: {message}"
            culprit.abort(CrashSuspect.code, why, at_once=True)
        self._settle(had_streams)

    def engine_lost(self, message: str) -> None:
        """Ends every open program; until an engine is ready again new ones end as they begin."""
        self._desk.lost = message
        self._desk.outbox.lose_engine()
        self._desk.questions.engine_lost()
        self._desk.streams.forget_all()
        for connection in self._connections.values():
            for program in connection.programs.values():
                program.abort("engine_lost", message, at_once=True)

    def tick(self, now: float) -> None:
        """Ends the programs and sessions whose time is over."""
        self._desk.streams.now = now
        self._desk.sessions.expire(now)
        for program in self._desk.deadlines.due(now):
            why = f"the program ran past its timeout of {program.options.timeout_s} s"
            try:
                program.abort("deadline", why, at_once=True)
            except Exception as error:
                program.crash(error)

    def next_deadline(self) -> float | None:
        """When `tick` is next needed."""
        ends = (self._desk.deadlines.next(), self._desk.sessions.next_end())
        return min((end for end in ends if end is not None), default=None)

    def drain(self) -> Outbox:
        """What is to be sent now; the front forgets it."""
        desk = self._desk
        if desk.outbox.has_engine:
            if desk.suspects.is_trial_over:
                self._end_trial()
            if self._hints:
                send_hints(desk.streams, desk.outbox)
            desk.streams.to_hint.clear()
        return desk.outbox.take()

    @property
    def num_programs(self) -> int:
        """Programs that have not finished."""
        return sum(
            not program.is_finished
            for connection in self._connections.values()
            for program in connection.programs.values()
        )

    @property
    def num_streams(self) -> int:
        """Streams that the engine has yet to end."""
        return len(self._desk.streams)

    def _facts(self) -> Facts:
        """What a client may know of the front: nothing of others but how many there are."""
        desk, ready = self._desk, self._desk.setting.ready
        return {
            "version": __version__,
            "model": ready.model,
            "context": ready.max_context,
            "protocol": PROTOCOL_VERSION,
            "uptime_s": desk.streams.now - self._started_at,
            "clients": len(self._connections),
            "programs": self.num_programs,
            "streams": self.num_streams,
            "sessions": len(desk.sessions),
            "session_bytes": desk.sessions.num_bytes,
        }

    def check(self) -> None:
        """Raises AssertionError where the books do not balance; for tests."""
        desk = self._desk
        desk.streams.check()
        desk.sessions.check()
        users = sum(len(connection.constraints) for connection in self._connections.values())
        assert users == desk.constraints.num_users, "constraints without a connection"
        for connection in self._connections.values():
            for program in connection.programs.values():
                program.check()
        if not self._connections:
            assert not len(desk.constraints), "constraints without a connection"
            assert not len(desk.deadlines), "deadlines without a connection"

    def _receive(self, program: Program, event: Tokens | NodeDone | StreamEnded) -> None:
        try:
            self._desk.streams.receive(event)
        except Exception as error:
            program.crash(error)

    def _settle(self, programs: Iterable[Program]) -> None:
        for program in programs:
            try:
                program.settle()
            except Exception as error:
                program.crash(error)

    def _engine_is_ready(self, ready: EngineReady) -> None:
        desk = self._desk
        if desk.outbox.has_engine:
            return
        _check_ready(desk.setting.codec, ready)
        if ready != desk.setting.ready:
            raise ConnectionFailed(
                f"the engine that follows is another one: {ready!r} after {desk.setting.ready!r}"
            )
        desk.lost = None
        desk.outbox.has_engine = True
        desk.constraints.define_all()
        desk.questions.ask_again()
        self._settle(desk.streams.launch_all())

    def _end_trial(self) -> None:
        self._desk.suspects.next_trial()
        self._desk.streams.held = self._desk.suspects.held
        self._settle(self._desk.streams.launch_all())


def _check_ready(codec: TextCodec, ready: EngineReady) -> None:
    if ready.protocol != PROTOCOL_VERSION:
        raise ConnectionFailed(
            f"the engine speaks protocol {ready.protocol!r}, the front {PROTOCOL_VERSION}"
        )
    if ready.tokenizer_fingerprint != codec.fingerprint:
        raise ConnectionFailed(
            f"the engine uses tokenizer {ready.tokenizer_fingerprint!r:.24}, "
            f"the front {codec.fingerprint!r:.24}; both must load the same model"
        )
