"""Every message arrives once and in order, whatever happens to the links."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from tests.fakes.lossy_network import LossyNetwork

from furcate.errors import ConnectionFailed, EngineLost, Overloaded, WireError
from furcate.lang.backend.wire import MAX_MISMATCHES, RESUME_S, End
from furcate.protocol.codec import encode
from furcate.protocol.envelope import Ack, Message, Open, Refusal, encode_header
from furcate.protocol.message import Cancel, Delta
from furcate.protocol.numbering import CONFIRM_BYTES, CONFIRM_MESSAGES, Numbering
from furcate.runtime.transport.client import WINDOW_BYTES

pytestmark = pytest.mark.timeout(60)


def request(number: int) -> bytes:
    return encode([Cancel(number)])


def texts(network: LossyNetwork) -> str:
    return "".join(event.text for event in network.events if isinstance(event, Delta))


STEPS = st.lists(
    st.sampled_from(
        ["request", "event", "big event", "to server", "to client", "cut", "wait", "gone", "back"]
    ),
    max_size=120,
)


@settings(max_examples=300)
@given(steps=STEPS)
def test_each_message_arrives_once_and_in_order(steps: list[str]) -> None:
    network = LossyNetwork()
    num_requests = num_events = 0
    expected = ""
    for step in steps:
        match step:
            case "request":
                network.wire.send(request(num_requests))
                num_requests += 1
            case "event" | "big event" if network.client is not None:
                text = f"<{num_events}>" * (1 if step == "event" else 40_000)
                network.client.send([Delta(0, 0, 0, 0, text)])
                expected += text
                num_events += 1
            case "to server":
                network.deliver_to_server()
            case "to client":
                network.deliver_to_client()
            case "cut":
                network.cut()
            case "wait":
                network.loop.advance(0.3)
            case "gone":
                network.is_reachable = False
            case "back":
                network.is_reachable = True
    network.is_reachable = True
    network.settle()
    assert network.error is None
    assert network.requests == [Cancel(number) for number in range(num_requests)]
    assert texts(network) == expected


@settings(max_examples=100)
@given(cuts=st.lists(st.integers(0, 12), max_size=12), size=st.integers(1, 50_000))
def test_a_stream_that_is_cut_again_and_again_is_the_same(cuts: list[int], size: int) -> None:
    network = LossyNetwork(max_held_bytes=2**30)
    network.settle()
    for number in range(60):
        network.client.send([Delta(0, 0, 0, 0, f"{number}" * size)])
        network.wire.send(request(number))
    for deliveries in cuts:
        for _ in range(deliveries):
            network.deliver_to_server()
            network.deliver_to_client()
        network.cut()
        network.loop.advance(2.5)
    network.settle()
    assert texts(network) == "".join(f"{number}" * size for number in range(60))
    assert network.requests == [Cancel(number) for number in range(60)]


def test_a_link_that_does_not_come_back_in_time_is_a_lost_engine() -> None:
    network = LossyNetwork()
    network.settle()
    network.is_reachable = False
    network.cut()
    network.loop.advance(RESUME_S - 1)
    assert network.error is None
    network.loop.advance(5)
    assert isinstance(network.error, EngineLost)
    assert "could not be made again within 30 s: nobody listens there" in str(network.error)


def test_a_server_that_knows_nothing_of_the_connection_is_a_lost_engine() -> None:
    network = LossyNetwork()
    network.settle()
    network.cut()
    network.loop.advance(1)
    opening = network.links[-1].to_server[0][0]
    assert opening == encode_header(Open(network.client.name, 0, fresh=False))
    network.links[-1].to_client.append([encode_header(Refusal("engine_lost", "started anew"))])
    network.deliver_to_client()
    assert isinstance(network.error, EngineLost)
    assert network.error.retryable


def test_before_the_first_answer_links_are_tried_until_somebody_gives_up() -> None:
    network = LossyNetwork()
    network.is_reachable = False
    network.cut()
    network.loop.advance(120)
    assert network.error is None
    assert network.wire.last_end == End("nobody listens there")
    network.is_reachable = True
    network.settle()
    assert network.client is not None


def test_two_sides_that_never_understand_each_other_stop_trying() -> None:
    network = LossyNetwork()
    for _ in range(MAX_MISMATCHES):
        network.links[-1].is_open = False
        network.links[-1].handler.ended(End("wrong keys", mismatched=True))
        network.loop.advance(1)
    assert isinstance(network.error, ConnectionFailed)
    assert "wrong keys" in str(network.error)


def test_a_client_without_entry_is_told_at_once() -> None:
    network = LossyNetwork()
    network.links[-1].handler.ended(End("it does not know this client's key", denied=True))
    assert isinstance(network.error, ConnectionFailed)


def test_a_link_that_is_not_answered_is_replaced() -> None:
    network = LossyNetwork()
    network.loop.advance(6)
    assert len(network.links) == 2
    assert not network.links[0].is_open


def test_more_than_can_be_kept_for_a_server_ends_the_connection(monkeypatch) -> None:
    monkeypatch.setattr("furcate.lang.backend.wire.MAX_UNCONFIRMED_BYTES", 1_000)
    network = LossyNetwork()
    network.settle()
    network.wire.send(b"x" * 900)
    assert network.error is None
    network.wire.send(b"x" * 900)
    assert isinstance(network.error, Overloaded)
    assert "1800 bytes wait for the server to take them" in str(network.error)


def test_what_waits_for_a_client_that_is_away_is_bounded_and_deltas_become_one() -> None:
    network = LossyNetwork(max_held_bytes=200_000)
    network.settle()
    network.is_reachable = False
    network.cut()
    network.client.send([Delta(0, 0, 0, 0, "x" * (WINDOW_BYTES + 1))])  # fills the window
    for _ in range(1_000):
        network.client.send([Delta(0, 0, 1, 0, "y" * 10)])
    assert network.client.num_held_bytes == 10_064
    assert network.overflows == 0
    network.client.send([Delta(0, 0, 2, 0, "z" * 200_000)])
    assert network.overflows == 1
    network.is_reachable = True
    network.settle()
    by_value = [(event.value, len(event.text)) for event in network.events]
    assert by_value == [(0, WINDOW_BYTES + 1), (1, 10_000), (2, 200_000)]


def test_a_side_confirms_at_the_latest_after_so_much() -> None:
    numbering = Numbering(keeps=True)
    for number in range(1, CONFIRM_MESSAGES):
        assert numbering.take(Message(number, 0), 10)
        assert numbering.due_confirmation() is None
    assert numbering.take(Message(CONFIRM_MESSAGES, 0), 10)
    assert numbering.due_confirmation() == Ack(CONFIRM_MESSAGES)
    assert numbering.due_confirmation() is None
    assert numbering.take(Message(CONFIRM_MESSAGES + 1, 0), CONFIRM_BYTES)
    assert numbering.due_confirmation() == Ack(CONFIRM_MESSAGES + 1)


def test_only_what_was_sent_can_be_confirmed_and_never_less_than_before() -> None:
    numbering = Numbering(keeps=True)
    numbering.put(b"one")
    with pytest.raises(WireError, match="message 1 is confirmed; messages 0 to 0 can be"):
        numbering.confirm(1)
    numbering.next_due()
    numbering.confirm(1)
    assert numbering.num_bytes == 0
    with pytest.raises(WireError):
        numbering.confirm(0)


def test_a_message_that_skips_one_is_an_error_and_one_that_came_before_is_passed_over() -> None:
    numbering = Numbering(keeps=False)
    assert numbering.take(Message(1, 0), 1)
    assert not numbering.take(Message(1, 0), 1)
    with pytest.raises(WireError, match="message 3 follows on message 1"):
        numbering.take(Message(3, 0), 1)
