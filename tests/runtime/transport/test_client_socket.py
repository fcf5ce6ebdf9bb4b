"""The socket of the clients: strangers, garbage, deaths, and those who do not read."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from furcate.protocol.codec import encode
from furcate.protocol.envelope import (
    Ack,
    Message,
    Open,
    Opened,
    Refusal,
    encode_header,
)
from furcate.protocol.message import Bye, Cancel, Delta, Hello, Welcome
from furcate.runtime.transport.client import WINDOW_BYTES

MESSAGE = encode_header(Message(1, 0))


@pytest.fixture
def client(server, raw):
    """Connected and greeted."""
    client = raw(server.address)
    client.open()
    client.send(Hello(1, "test"))
    assert isinstance(client.receive()[0], Welcome)
    return client


def refusal_of(client):
    while not isinstance(header := client.header(), Refusal):
        pass
    return header


def test_the_socket_is_its_owners_alone(server) -> None:
    assert stat.S_IMODE(os.stat(server.address.removeprefix("ipc://")).st_mode) == 0o600


def test_a_list_of_requests_arrives_and_a_list_of_events_goes_back(server, client) -> None:
    assert len(server.connections) == 1


@pytest.mark.parametrize(
    "frames",
    [
        [b"\x00garbage"],
        [b""],
        [MESSAGE, b"\x00garbage"],
        [MESSAGE, msgspec.msgpack.encode({"no": "list"})],
        [MESSAGE, encode([Bye()]), encode([Bye()])],
        [MESSAGE],
        [MESSAGE, b"\x81" * 200_000],  # maps within maps
        [encode_header(Message(3, 0)), encode([Bye()])],  # two are missing
        [encode_header(Message(2, 99)), encode([Bye()])],  # nobody sent 99
        [encode_header(Ack(99))],
        [encode_header(Opened(0))],
        [encode_header(Open(b"d" * 16, 0, True))],
        [b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x8c\x05print\x93."],
    ],
)
def test_a_malformed_message_is_counted_and_ends_that_connection_alone(
    server, client, raw, eventually, frames
) -> None:
    neighbour = raw(server.address, b"n" * 16)
    neighbour.open()
    if frames[0] == MESSAGE:
        frames = [encode_header(Message(2, 1)), *frames[1:]]
    client.socket.send_multipart(frames)
    assert refusal_of(client).code == "wire"
    assert server.socket.malformed_frames == 1
    eventually(lambda: server.departed == server.connections[:1])
    client.send(Cancel(1))
    neighbour.send(Cancel(2))
    eventually(lambda: [request for _, request in server.requests] == [Cancel(2)])


@pytest.mark.parametrize(
    "frames",
    [
        [b"garbage"],
        [MESSAGE, encode([Hello(1, "in a hurry")])],
        [encode_header(Open(b"c" * 16, 7, True))],
        [encode_header(Open(b"c" * 16, 0, True)), b""],
        [msgspec.msgpack.encode(["o", b"short", 0, True])],
    ],
)
def test_a_link_that_does_not_begin_well_is_refused(server, raw, frames) -> None:
    client = raw(server.address)
    client.socket.send_multipart(frames)
    assert refusal_of(client).code == "wire"
    assert server.requests == []


def test_a_connection_that_the_server_does_not_know_is_lost(server, raw) -> None:
    client = raw(server.address)
    client.socket.send(encode_header(Open(b"c" * 16, 3, False)))
    refusal = client.header()
    assert (refusal.code, server.socket.malformed_frames) == ("engine_lost", 0)


def test_a_client_that_closes_is_noticed(server, client, eventually) -> None:
    client.close()
    eventually(lambda: server.departed == server.connections)


def test_a_client_that_is_killed_is_noticed_within_two_seconds(server, eventually) -> None:
    code = (
        "import sys, time; from furcate.lang.backend.zmq import ZmqChannel;"
        "ZmqChannel(sys.argv[1]).open(lambda events: None, lambda error: None);"
        "print('there', flush=True); time.sleep(60)"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", code, server.address],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == b"there\n"
        client.send_signal(signal.SIGKILL)
        eventually(lambda: server.departed == server.connections and server.connections)
    finally:
        client.kill()
        client.communicate()


def test_events_for_a_client_that_is_gone_go_nowhere(server, client, eventually) -> None:
    client.close()
    eventually(lambda: server.departed)
    server.send(server.connections[0], Welcome(1, "late", "f", 1))


def test_a_client_that_does_not_read_gets_everything_once_it_does(server, client) -> None:
    text = "x" * 1_000
    for number in range(1_500):  # over what may be under way
        server.send(server.connections[0], Welcome(1, text, "f", number))
    assert 0 < server.connections[0].num_held_bytes < 1_500 * 1_100 - WINDOW_BYTES + 64 * 1_500
    seen: list[int] = []
    while len(seen) < 1_500:
        seen += [event.max_context for event in client.receive()]
        client.socket.send(encode_header(Ack(client.num_received)))
    assert seen == list(range(1_500))
    assert server.connections[0].num_held_bytes == 0


def test_a_client_that_never_reads_loses_its_programs_and_then_its_connection(
    server, client, eventually
) -> None:
    (slow,) = server.connections
    text = "x" * 10_000
    while not server.overloads:
        server.send(slow, Delta(3, 0, 0, 0, text), Delta(4, 0, 0, 0, text))
    assert server.overloads == [(slow, {3, 4})]
    assert slow.num_held_bytes == 0
    assert server.departed == []
    while not server.departed:
        server.send(slow, Delta(5, 0, 0, 0, text))
    assert (server.departed, len(server.overloads)) == ([slow], 1)
    assert slow.num_held_bytes == 0
    while not isinstance(header := client.socket.recv_multipart(), list) or len(header) > 1:
        pass
    assert header == [
        encode_header(
            Refusal(
                "overloaded",
                "the client does not read what it is sent, and too much of it has come together",
            )
        )
    ]


def test_one_that_reads_again_after_an_overload_goes_on(server, client, eventually) -> None:
    (slow,) = server.connections
    while not server.overloads:
        server.send(slow, Delta(3, 0, 0, 0, "x" * 10_000))
    server.send(slow, Welcome(1, "after", "f", 1))
    while client.receive() != [Welcome(1, "after", "f", 1)]:
        client.socket.send(encode_header(Ack(client.num_received)))
    while len(server.overloads) < 2:
        server.send(slow, Delta(3, 0, 0, 0, "x" * 10_000))
    assert server.departed == []


def test_more_events_than_a_frame_may_have_are_several_frames(server, client, monkeypatch) -> None:
    monkeypatch.setattr("furcate.runtime.transport.client.MAX_FRAME_BYTES", 50)
    events = [Delta(3, 0, 0, 0, f"{number:010}") for number in range(20)]
    server.send(server.connections[0], *events)
    seen: list[object] = []
    while len(seen) < 20:
        seen += client.receive()
    assert seen == events
    assert client.num_received > 5


HEADERS = st.one_of(
    st.builds(Open, st.binary(min_size=16, max_size=16), st.integers(0, 3), st.booleans()),
    st.builds(Opened, st.integers(0, 3)),
    st.builds(Message, st.integers(1, 3), st.integers(0, 3)),
    st.builds(Ack, st.integers(0, 3)),
    st.builds(Refusal, st.text(max_size=3), st.text(max_size=3)),
).map(encode_header)
PAYLOADS = st.sampled_from([encode([Bye()]), encode([Hello(1, "x")]), encode([]), b"\x90\x90"])
FRAMES = st.lists(
    st.lists(HEADERS | PAYLOADS | st.binary(max_size=40), min_size=1, max_size=3), max_size=8
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=FRAMES)
def test_whatever_a_client_sends_the_others_notice_nothing(server, raw, messages) -> None:
    vandal, neighbour = (raw(server.address, os.urandom(16)) for _ in range(2))
    try:
        for frames in messages:
            vandal.socket.send_multipart(frames)
        neighbour.open()
        neighbour.send(Hello(1, "neighbour"))
        assert isinstance(neighbour.receive()[0], Welcome)
    finally:
        vandal.close()
        neighbour.close()
