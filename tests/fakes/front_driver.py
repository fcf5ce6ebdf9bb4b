"""Drives a Front against an engine, and reads what a client would read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tests.fakes.answers import ANSWERED, answer_to
from tests.fakes.fake_engine import FakeEngine

from furcate.protocol.message import (
    PROTOCOL_VERSION,
    Delta,
    Failed,
    Finished,
    Graph,
    Hello,
    Invoke,
    Options,
    Value,
)
from furcate.runtime.graph import Front
from furcate.runtime.tokenize.byte_level import ByteTokenizer
from furcate.runtime.tokenize.template import ChatTemplate

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from furcate.protocol.graph import Node
    from furcate.protocol.message import Event, Request
    from furcate.protocol.stream import EngineEvent, EngineReady, EngineRequest
    from furcate.runtime.graph import Limits
    from furcate.runtime.tokenize.base import TextCodec

__all__ = ["Driver"]


class Engine(Protocol):
    """What a Driver needs of an engine: FakeEngine has it, and so has the scheduler."""

    def ready(self) -> EngineReady: ...

    def handle(self, requests: Sequence[EngineRequest]) -> None: ...

    def step(self) -> list[EngineEvent]: ...

    @property
    def has_work(self) -> bool: ...


class NoEngine:
    """Nothing may be asked of it."""

    has_work = False

    def ready(self) -> EngineReady:
        raise AssertionError("there is no engine")

    def handle(self, requests: Sequence[EngineRequest]) -> None:
        assert not requests

    def step(self) -> list[EngineEvent]:
        return []


NO_ENGINE = NoEngine()


class Driver:
    """One front, one engine, any number of clients; client "a" is connected and greeted."""

    def __init__(
        self,
        engine: Engine | None = None,
        *,
        codec: TextCodec | None = None,
        limits: Limits | None = None,
        max_context: int = 4096,
    ) -> None:
        self.codec = codec or ByteTokenizer()
        self.engine = engine or FakeEngine(
            fingerprint=self.codec.fingerprint, max_context=max_context
        )
        template = ChatTemplate(self.codec) if self.codec.chat_template else None
        self.front = Front(self.codec, template, self.engine.ready(), limits)
        self.now = 0.0
        self.events: dict[Hashable, list[Event]] = {}
        self.sent: list[EngineRequest] = []
        self.asked: list[tuple[Hashable, Invoke]] = []  # to be answered before the next step
        self.connect("a")

    def connect(self, client: Hashable) -> None:
        self.front.connect(client)
        self.send(Hello(PROTOCOL_VERSION, "test"), client=client)

    def send(self, *requests: Request, client: Hashable = "a") -> None:
        """The engine gets what follows from it, but does not run yet."""
        self.front.handle(client, requests, self.now)
        self.pump()

    def program(
        self,
        *nodes: Node,
        program: int = 0,
        epoch: int = 0,
        done: bool = True,
        client: Hashable = "a",
        stream: bool = False,
        timeout_s: float | None = None,
        seed: int = 7,
    ) -> None:
        options = Options(seed=seed, stream=stream, timeout_s=timeout_s) if epoch == 0 else None
        self.send(Graph(program, epoch, nodes, done, options), client=client)

    def pump(self) -> None:
        outbox = self.front.drain()
        self.sent += outbox.to_engine
        self.engine.handle(outbox.to_engine)
        for client, events in outbox.to_clients.items():
            self.events.setdefault(client, []).extend(events)
            asked = [event for event in events if isinstance(event, Invoke)]
            self.asked += [(client, event) for event in asked if event.function >= ANSWERED]

    def step(self) -> None:
        """The client answers what it was asked, then the engine runs."""
        asked, self.asked = self.asked, []
        for client, invoke in asked:
            if not self.front.is_closed(client):
                self.front.handle(client, [answer_to(invoke)], self.now)
        self.front.handle_engine(self.engine.step(), self.now)
        self.front.check()
        self.pump()

    def run(self, max_steps: int = 2000) -> None:
        """Until the engine has nothing to do and the client was not asked for anything."""
        for _ in range(max_steps):
            if not (self.engine.has_work or self.asked):
                return
            self.step()
        raise AssertionError("the engine does not come to rest")

    def lose_engine(self, in_flight: frozenset[int] | None = None) -> None:
        """The engine ends; what it has said and the front has not heard is lost."""
        self.front.suspend("killed by SIGKILL", in_flight)
        self.front.check()
        self.engine = NO_ENGINE
        self.pump()

    def replace_engine(self, engine: Engine) -> None:
        self.engine = engine
        self.front.handle_engine([engine.ready()], self.now)
        self.front.check()
        self.pump()

    # What a client sees --------------------------------------------------------------------------

    def of(self, kind: type[Event], client: Hashable = "a", program: int = 0) -> list[Event]:
        return [
            event
            for event in self.events.get(client, [])
            if isinstance(event, kind) and getattr(event, "program", program) == program
        ]

    def values(self, client: Hashable = "a", program: int = 0) -> dict[int, object]:
        return {e.value: e.data for e in self.of(Value, client, program)}

    def failures(self, client: Hashable = "a", program: int = 0) -> list[Failed]:
        return [e for e in self.of(Failed, client, program) if isinstance(e, Failed)]

    def finished(self, client: Hashable = "a", program: int = 0) -> Finished:
        (event,) = self.of(Finished, client, program)
        assert isinstance(event, Finished)
        return event

    def deltas(self, value: int, sample: int = 0) -> str:
        return "".join(
            e.text
            for e in self.of(Delta)
            if isinstance(e, Delta) and (e.value, e.sample) == (value, sample)
        )

    def disconnect_all(self, clients: Sequence[Hashable] = ("a",)) -> None:
        for client in clients:
            self.front.disconnect(client)
        self.pump()
        self.run()
