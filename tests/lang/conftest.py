"""Backends for the tests of the language: Mock, and a channel that the test plays by hand."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from tests.fakes.mock_runs import MockRuns

import furcate as fc
from furcate.errors import EngineLost, FurcateError
from furcate.protocol.batch import unpack
from furcate.protocol.graph import Gen, Node, Select
from furcate.protocol.message import (
    PROTOCOL_VERSION,
    Batch,
    Event,
    Finished,
    Graph,
    Release,
    Request,
    Usage,
    Value,
    Welcome,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class HandChannel:
    """Keeps what is sent; answers only what `react` gives for each request."""

    def __init__(self, react: Callable[[HandChannel, Request], Sequence[Event]] | None = None):
        self.sent: list[Sequence[Request]] = []
        self.released = threading.Event()
        self.closed = False
        self._react = react
        self._changed = threading.Condition()

    def open(self, deliver, lost) -> Welcome:
        self.deliver, self._lost = deliver, lost
        return Welcome(PROTOCOL_VERSION, "by hand", "none", 4096)

    def send(self, requests: Sequence[Request]) -> None:
        if self.closed:
            raise EngineLost("the engine has gone")
        with self._changed:
            self.sent.append(requests)
            self._changed.notify_all()
        for request in unpacked(requests):
            if isinstance(request, Release):
                self.released.set()
            if self._react is not None:
                events = self._react(self, request)
                if events:
                    self.deliver(events)

    def lose(self, error: FurcateError) -> None:
        self.closed = True
        self._lost(error)

    def close(self) -> None:
        self.closed = True

    def wait_for(self, ready: Callable[[HandChannel], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: ready(self), timeout=5)

    @property
    def nodes(self) -> list[Node]:
        return [
            node
            for requests in self.sent
            for request in unpacked(requests)
            if isinstance(request, Graph)
            for node in request.nodes
        ]


def unpacked(requests: Sequence[Request]) -> list[Request]:
    """With single deltas in place of batches."""
    return [
        each
        for request in requests
        for each in (unpack(request) if isinstance(request, Batch) else (request,))
    ]


def values(program: int, nodes: Sequence[Node], text: str = "x") -> list[Event]:
    """A Value for each gen and select among the nodes."""
    found: list[Event] = []
    for node in nodes:
        if isinstance(node, Gen):
            found.append(Value(program, node.value, text))
        elif isinstance(node, Select):
            found.append(Value(program, node.value, 0))
    return found


def finished(program: int, code: str | None = None) -> Finished:
    return Finished(program, Usage(), code, code)


def at_once(channel: HandChannel, request: Request) -> list[Event]:
    """Answers every delta with its values, and the last with the end."""
    if not isinstance(request, Graph):
        return []
    events = values(request.program, request.nodes)
    return [*events, finished(request.program)] if request.done else events


@pytest.fixture
def by_hand():
    """`by_hand(react)` gives a session and its channel."""
    sessions = []

    def open_session(react=None):
        channel = HandChannel(react)
        session = fc.Session(channel)
        sessions.append(session)
        return session, channel

    open_session.values, open_session.finished = values, finished
    open_session.at_once = at_once
    yield open_session
    for session in sessions:
        session.close()


@pytest.fixture
def echo():
    """A mock that answers with a short digest of what it has read: any change upstream shows."""

    def reply(call: fc.MockCall) -> str | int:
        digest = sum(ord(char) * (place + 1) for place, char in enumerate(call.text)) + call.sample
        return digest % len(call.choices) if call.choices is not None else f"<{digest % 9973}>"

    with fc.Mock(reply) as backend:
        yield backend


@pytest.fixture
def run():
    """Runs bodies on mocks."""
    runs = MockRuns()
    yield runs
    runs.close()
