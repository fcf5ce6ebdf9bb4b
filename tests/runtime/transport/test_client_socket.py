"""The socket of the clients: strangers, garbage, deaths."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys

import msgspec
import pytest
import zmq

from furcate.protocol.codec import decode_events, encode
from furcate.protocol.message import Bye, Cancel, Hello, Refused, Welcome


@pytest.fixture
def dealer(server):
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.RCVTIMEO, 5_000)
    socket.connect(server.address)
    yield socket
    socket.close(0)
    context.term()


def test_the_socket_is_its_owners_alone(server) -> None:
    assert stat.S_IMODE(os.stat(server.path).st_mode) == 0o600


def test_a_list_of_requests_arrives_and_a_list_of_events_goes_back(server, dealer) -> None:
    dealer.send(encode([Hello(1, "test")]))
    assert isinstance(decode_events(dealer.recv())[0], Welcome)
    assert len(server.connections) == 1


@pytest.mark.parametrize(
    "frames",
    [
        [b"\x00garbage"],
        [b""],
        [msgspec.msgpack.encode({"no": "list"})],
        [encode([Bye()]), encode([Bye()])],
        [],
    ],
)
def test_a_malformed_message_is_counted_and_ends_that_connection_alone(
    server, dealer, eventually, frames
) -> None:
    neighbour = dealer.context.socket(zmq.DEALER)
    neighbour.setsockopt(zmq.RCVTIMEO, 5_000)
    neighbour.connect(server.address)
    neighbour.send(encode([Hello(1, "neighbour")]))
    neighbour.recv()
    if frames:
        dealer.send_multipart(frames)
    else:
        dealer.send(b"\x81" * 200_000)  # maps within maps
    refused = decode_events(dealer.recv())[0]
    assert isinstance(refused, Refused)
    assert refused.code == "wire"
    assert server.socket.malformed_frames == 1
    eventually(lambda: len(server.departed) == 1)
    dealer.send(encode([Cancel(1)]))
    neighbour.send(encode([Cancel(2)]))
    eventually(lambda: [request for _, request in server.requests] == [Cancel(2)])
    neighbour.close(0)


def test_pickles_are_only_bytes(server, dealer) -> None:
    # What pickle.dumps gives for an object that would print when it is loaded.
    dealer.send(b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x8c\x05print\x93.")
    assert isinstance(decode_events(dealer.recv())[0], Refused)


def test_a_client_that_closes_is_noticed(server, dealer, eventually) -> None:
    dealer.send(encode([Hello(1, "test")]))
    dealer.recv()
    dealer.close(0)
    eventually(lambda: server.departed == server.connections and server.connections)


def test_a_client_that_is_killed_is_noticed_within_two_seconds(server, eventually) -> None:
    code = (
        "import sys, time, zmq; from furcate.protocol.codec import encode;"
        "from furcate.protocol.message import Hello;"
        "socket = zmq.Context().socket(zmq.DEALER); socket.connect(sys.argv[1]);"
        "socket.send(encode([Hello(1, 'victim')])); socket.recv(); print('there', flush=True);"
        "time.sleep(60)"
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


def test_events_for_a_client_that_is_gone_go_nowhere(server, dealer, eventually) -> None:
    dealer.send(encode([Hello(1, "test")]))
    dealer.recv()
    dealer.close(0)
    eventually(lambda: server.departed)
    server.send(server.connections[0], Welcome(1, "late", "f", 1))


def test_a_client_that_does_not_read_gets_everything_once_it_does(
    server, dealer, eventually
) -> None:
    dealer.setsockopt(zmq.RCVHWM, 1)
    dealer.send(encode([Hello(1, "slow")]))
    dealer.recv()
    client = server.connections[0]
    text = "x" * 1_000
    for number in range(3_000):  # over what ZeroMQ keeps for one client
        server.send(client, Welcome(1, text, "f", number))
    seen = [decode_events(dealer.recv())[0].max_context for _ in range(3_000)]
    assert seen == list(range(3_000))


def test_a_client_that_never_reads_is_cut_off(server, dealer, eventually, monkeypatch) -> None:
    monkeypatch.setattr("furcate.runtime.transport.clients.MAX_BACKLOG_BYTES", 1_000_000)
    dealer.setsockopt(zmq.RCVHWM, 1)
    dealer.send(encode([Hello(1, "slow")]))
    dealer.recv()
    client = server.connections[0]
    for _ in range(3_000):
        server.send(client, Welcome(1, "x" * 3_000, "f", 1))
    eventually(lambda: server.departed == [client])
