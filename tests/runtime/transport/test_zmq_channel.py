"""The language's end of the wire, against a server of a test's own."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
import zmq

from furcate.errors import CapacityError, ConnectionFailed, EngineLost, FurcateError, WireError
from furcate.lang.backend.zmq import ZmqChannel
from furcate.protocol.message import Cancel, Finished, Refused, Usage, Welcome
from furcate.runtime.transport.address import address_of

if TYPE_CHECKING:
    from pathlib import Path


class Listener:
    def __init__(self) -> None:
        self.events: list[object] = []
        self.losses: list[FurcateError] = []

    def deliver(self, events) -> None:
        self.events += events


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def channel(server, listener):
    channel = ZmqChannel(server.address)
    assert channel.open(listener.deliver, listener.losses.append).model == "test"
    yield channel
    channel.close()


def test_requests_arrive_in_the_order_of_the_calls_from_any_thread(
    server, channel, eventually
) -> None:
    def send(thread: int) -> None:
        for number in range(200):
            channel.send([Cancel(thread, number)])

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: len(server.requests) == 800)
    for thread in range(4):
        branches = [r.branch for _, r in server.requests if r.program == thread]
        assert branches == list(range(200))


def test_events_are_delivered_in_order(server, channel, listener, eventually) -> None:
    client = server.connections[0]
    for number in range(100):
        server.send(client, Finished(number, Usage()))
    eventually(lambda: len(listener.events) == 100)
    assert [event.program for event in listener.events] == list(range(100))


def test_the_bytes_of_both_directions_are_counted(server, channel, listener, eventually) -> None:
    before = channel.num_bytes_sent
    channel.send([Cancel(1)])
    server.send(server.connections[0], Finished(1, Usage()))
    eventually(lambda: channel.num_bytes_sent > before and listener.events)
    assert channel.num_bytes_received > 0


def test_a_server_that_goes_is_lost_within_two_seconds(
    server, channel, listener, eventually
) -> None:
    server.send(server.connections[0], Finished(7, Usage()))  # its last words arrive first
    server.close()
    eventually(lambda: listener.losses)
    assert [event.program for event in listener.events] == [7]
    (error,) = listener.losses
    assert isinstance(error, EngineLost)
    assert error.retryable
    assert server.address in str(error)
    with pytest.raises(EngineLost):
        channel.send([Cancel(1)])


def test_after_close_nothing_can_be_sent_and_nothing_is_called_lost(
    server, channel, listener, eventually
) -> None:
    channel.close()
    channel.close()
    with pytest.raises(ConnectionFailed, match="closed"):
        channel.send([Cancel(1)])
    eventually(lambda: server.departed)
    assert listener.losses == []
    assert [type(request).__name__ for _, request in server.requests] == ["Bye"]


def test_a_refusal_later_on_is_a_loss(server, channel, listener, eventually) -> None:
    server.send(server.connections[0], Refused("wire", "that was no message"))
    eventually(lambda: listener.losses)
    assert isinstance(listener.losses[0], WireError)
    assert "that was no message" in str(listener.losses[0])


def test_an_exception_in_the_listener_is_a_loss_not_a_hang(server, eventually) -> None:
    losses: list[FurcateError] = []

    def deliver(events) -> None:
        raise RuntimeError("the listener is broken")

    channel = ZmqChannel(server.address)
    channel.open(deliver, losses.append)
    server.send(server.connections[0], Finished(1, Usage()))
    eventually(lambda: losses)
    assert "the listener is broken" in str(losses[0])
    channel.close()


def test_closing_from_inside_lost_does_not_lock_up(server, eventually) -> None:
    closed = threading.Event()
    channel = ZmqChannel(server.address)

    def lost(error: FurcateError) -> None:
        channel.close()
        closed.set()

    channel.open(lambda events: None, lost)
    server.close()
    assert closed.wait(2)


def test_a_message_over_the_limit_is_refused_before_it_leaves(channel, monkeypatch) -> None:
    monkeypatch.setattr("furcate.lang.backend.zmq.MAX_FRAME_BYTES", 3)
    with pytest.raises(CapacityError, match="over the limit of 3"):
        channel.send([Cancel(1)])


def test_an_address_where_nobody_listens_is_named_with_the_remedy(tmp_path: Path) -> None:
    address = address_of(tmp_path / "nobody.sock")
    with pytest.raises(ConnectionFailed) as caught:
        ZmqChannel(address, timeout_s=0.05).open(lambda events: None, lambda error: None)
    assert address in str(caught.value)
    assert "there is no socket there" in str(caught.value)
    assert "is `furcate serve` running?" in str(caught.value)


def test_a_server_that_does_not_answer_is_given_up(server) -> None:
    server.welcomes = False
    with pytest.raises(ConnectionFailed, match="the socket is there, but nobody answered"):
        ZmqChannel(server.address, timeout_s=0.05).open(lambda events: None, lambda error: None)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tcp://127.0.0.1", "is no address of a server"),
        ("tcp://127.0.0.1:99999", "is no address of a server"),
        ("tcp://*:7000", "cannot be found"),
        ("/run/serve.sock", "is no address of a server"),
        ("ipc://serve.sock", "the absolute path"),
        ("ipc:///" + "x" * 107, "may have 107"),
    ],
)
def test_what_is_no_address_is_refused_at_once(address: str, message: str) -> None:
    with pytest.raises(ConnectionFailed, match=message):
        ZmqChannel(address).open(lambda events: None, lambda error: None)


def test_a_server_may_refuse_the_handshake(server) -> None:
    server.welcomes = False
    answers = []

    def refuse() -> None:
        while not server.connections:
            pass
        server.send(server.connections[0], Refused("connection", "protocol 9 is spoken here"))
        answers.append(True)

    thread = threading.Thread(target=refuse)
    thread.start()
    with pytest.raises(ConnectionFailed, match="protocol 9 is spoken here"):
        ZmqChannel(server.address).open(lambda events: None, lambda error: None)
    thread.join()


def test_a_server_that_speaks_gibberish_is_a_failed_connection(tmp_path: Path) -> None:
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    address = address_of(tmp_path / "odd.sock")
    router.bind(address)

    def answer() -> None:
        client, _ = router.recv_multipart()
        router.send_multipart([client, b"\xff\x00"])

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(ConnectionFailed, match="lost before it was answered"):
        ZmqChannel(address).open(lambda events: None, lambda error: None)
    thread.join()
    router.close(0)
    context.term()


def test_a_forked_child_is_told_to_connect_itself(channel) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            channel.send([Cancel(1)])
            os.write(writing, b"sent")
        except ConnectionFailed as error:
            os.write(writing, str(error).encode())
        finally:
            channel.close()
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert "connect again here" in pipe.read()
    os.waitpid(child, 0)


def test_the_first_answer_is_the_welcome(server, listener) -> None:
    channel = ZmqChannel(server.address)
    welcome = channel.open(listener.deliver, listener.losses.append)
    assert isinstance(welcome, Welcome)
    assert welcome.max_context == 100
    channel.close()
