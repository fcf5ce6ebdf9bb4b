"""Front and engine in one process, over an engine that a test writes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from furcate.errors import ConnectionFailed, EngineLost, FurcateError, ModelError
from furcate.lang.backend.inprocess import EngineChannel
from furcate.protocol.graph import Gen, Root, Text
from furcate.protocol.message import (
    PROTOCOL_VERSION,
    Event,
    Failed,
    Finished,
    Graph,
    Options,
    Usage,
    Value,
)
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import (
    Append,
    CancelStream,
    End,
    EngineEvent,
    EngineReady,
    EngineRequest,
    Generate,
    NodeDone,
    OpenStream,
    StreamEnded,
)
from furcate.runtime import launch
from furcate.runtime.server.text import template_of
from furcate.runtime.tokenize.byte_level import ByteTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CODEC = ByteTokenizer()
WAIT_S = 5.0


class Parrot:
    """An engine that answers every generation with "hi", or does what `on_generate` does."""

    def __init__(self, on_generate: Callable[[], None] | None = None) -> None:
        self.thread = threading.current_thread()
        self.num_steps = 0
        self.is_closed = False
        self.cancelled: list[int] = []
        self._on_generate = on_generate
        self._events: list[EngineEvent] = []
        self._nodes: dict[int, int] = {}

    def ready(self) -> EngineReady:
        return EngineReady(PROTOCOL_VERSION, "parrot", CODEC.fingerprint, 100, CODEC.vocab_size)

    def handle(self, requests: Sequence[EngineRequest]) -> None:
        for request in requests:
            if isinstance(request, OpenStream):
                self._nodes[request.stream] = 0
            elif isinstance(request, CancelStream):
                self.cancelled.append(request.stream)
                self._events.append(StreamEnded(request.stream, Usage(), "cancelled"))
            elif isinstance(request, Append):
                self._append(request)

    def _append(self, request: Append) -> None:
        for node in request.nodes:
            ordinal = self._nodes[request.stream]
            self._nodes[request.stream] += 1
            if isinstance(node, Generate):
                if self._on_generate is not None:
                    self._on_generate()
                self._events.append(NodeDone(request.stream, ordinal, (104, 105), "eos", Usage()))
            elif isinstance(node, End):
                self._events.append(StreamEnded(request.stream, Usage()))

    @property
    def has_work(self) -> bool:
        return bool(self._events)

    def step(self) -> list[EngineEvent]:
        self.num_steps += 1
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        self.is_closed = True


class Client:
    """A channel over a Parrot, and what it has heard."""

    def __init__(self, build: Callable[[], Parrot] = Parrot) -> None:
        self.events: list[Event] = []
        self.losses: list[FurcateError] = []
        self.engines: list[Parrot] = []
        self._news = threading.Condition()
        self._build = build
        self.channel = EngineChannel.over(
            lambda deliver, lost: launch.local_runtime_for(
                self._engine, CODEC, template_of(CODEC), deliver, lost
            )
        )

    def _engine(self, wake: Callable[[], None]) -> Parrot:
        self.engines.append(self._build())
        return self.engines[-1]

    def open(self) -> str:
        return self.channel.open(self._deliver, self._lose).model

    def _deliver(self, events: Sequence[Event]) -> None:
        with self._news:
            self.events += events
            self._news.notify_all()

    def _lose(self, error: FurcateError) -> None:
        with self._news:
            self.losses.append(error)
            self._news.notify_all()

    def wait(self, condition: Callable[[], object]) -> None:
        with self._news:
            assert self._news.wait_for(condition, WAIT_S)

    @property
    def finished(self) -> list[Finished]:
        return [event for event in self.events if isinstance(event, Finished)]


def program(number: int = 0, timeout_s: float | None = None) -> Graph:
    nodes = (Root(0), Text(0, "say "), Gen(0, 0, 0, Sampling()))
    return Graph(number, 0, nodes, done=True, options=Options(seed=1, timeout_s=timeout_s))


@pytest.fixture
def new_threads() -> Callable[[], list[str]]:
    """Threads of the project that the test has started and that still run."""
    before = set(threading.enumerate())

    def found() -> list[str]:
        running = [thread for thread in threading.enumerate() if thread not in before]
        return [thread.name for thread in running if thread.name.startswith("furcate")]

    return found


def test_a_program_runs_and_its_value_comes_back() -> None:
    client = Client()
    assert client.open() == "parrot"
    client.channel.send([program()])
    client.wait(lambda: client.finished)
    assert [event.data for event in client.events if isinstance(event, Value)] == ["hi"]
    client.channel.close()


def test_the_engine_is_built_on_its_own_thread_and_closed_there(
    new_threads: Callable[[], list[str]],
) -> None:
    client = Client()
    client.open()
    (engine,) = client.engines
    assert engine.thread.name == "furcate-engine"
    client.channel.close()
    assert engine.is_closed
    assert new_threads() == []


def test_an_idle_engine_does_not_step() -> None:
    client = Client()
    client.open()
    for number in range(5):
        client.channel.send([program(number)])
        client.wait(lambda expected=number + 1: len(client.finished) == expected)
    # A step for each batch of requests and none in between.
    assert client.engines[0].num_steps <= 15
    client.channel.close()


def test_an_exception_in_the_engine_ends_every_program_and_the_connection(
    new_threads: Callable[[], list[str]],
) -> None:
    def burst() -> None:
        raise ZeroDivisionError("the model is on fire")

    client = Client(lambda: Parrot(burst))
    client.open()
    client.channel.send([program(1), program(2)])
    client.wait(lambda: client.losses)
    assert {event.code for event in client.finished} == {"engine_lost"}
    assert len(client.finished) == 2
    assert {event.code for event in client.events if isinstance(event, Failed)} == {"engine_lost"}
    (error,) = client.losses
    assert isinstance(error, EngineLost)
    assert "ZeroDivisionError: the model is on fire" in str(error)
    with pytest.raises(EngineLost, match="on fire"):
        client.channel.send([program(3)])
    client.channel.close()
    assert new_threads() == []


def test_an_engine_that_cannot_be_built_raises_its_error_and_leaves_no_thread(
    new_threads: Callable[[], list[str]],
) -> None:
    def refuse() -> Parrot:
        raise ModelError("there is no model 'x'")

    client = Client(refuse)
    with pytest.raises(ModelError, match="there is no model 'x'"):
        client.open()
    assert new_threads() == []


def test_an_engine_with_another_tokenizer_is_refused(new_threads: Callable[[], list[str]]) -> None:
    class Stranger(Parrot):
        def ready(self) -> EngineReady:
            return EngineReady(PROTOCOL_VERSION, "stranger", "other", 100, 10)

    client = Client(Stranger)
    with pytest.raises(ConnectionFailed, match="tokenizer"):
        client.open()
    assert new_threads() == []


def test_an_exception_in_the_listener_is_a_loss_not_a_hang() -> None:
    client = Client()

    def deliver(events: Sequence[Event]) -> None:
        raise RuntimeError("the listener is broken")

    client.channel.open(deliver, client._lose)
    client.channel.send([program()])
    client.wait(lambda: client.losses)
    assert "the listener is broken" in str(client.losses[0])
    client.channel.close()


def test_a_deadline_passes_without_any_message() -> None:
    class Silent(Parrot):
        def _append(self, request: Append) -> None:
            pass

    client = Client(Silent)
    client.open()
    client.channel.send([program(timeout_s=0.02)])
    client.wait(lambda: client.finished)
    assert client.finished[0].code == "deadline"
    client.channel.close()


def test_close_while_a_program_runs_ends_in_good_order(
    new_threads: Callable[[], list[str]],
) -> None:
    class Silent(Parrot):
        def _append(self, request: Append) -> None:
            pass

    client = Client(Silent)
    client.open()
    client.channel.send([program()])
    client.channel.close()
    client.channel.close()
    with pytest.raises(ConnectionFailed, match="closed"):
        client.channel.send([program(2)])
    assert client.losses == []
    assert new_threads() == []


def test_options_are_checked_before_anything_starts(new_threads: Callable[[], list[str]]) -> None:
    with pytest.raises(ValueError, match="did you mean 'max_rows'"):
        EngineChannel("test:context", max_row=1)
    with pytest.raises(ValueError, match="--page-size must be at least 1"):
        EngineChannel("test:context", page_size=0)
    assert new_threads() == []
