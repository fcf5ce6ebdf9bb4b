"""Decoding is total: whatever the bytes, well-formed messages or a WireError, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from furcate.errors import WireError
from furcate.protocol import graph, message, stream
from furcate.protocol.codec import (
    MAX_FRAME_BYTES,
    decode_engine_events,
    decode_engine_requests,
    decode_events,
    decode_requests,
    encode,
)
from furcate.protocol.constraint import Constraint
from furcate.protocol.message import Alternative, ChoiceScores, TokenLogprob, Usage, ValueMeta
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import ChoiceResult, RawLogprob

if TYPE_CHECKING:
    from collections.abc import Callable

NODES: tuple[graph.Node, ...] = (
    graph.Root(0),
    graph.Root(3, "smollm2"),
    graph.Text(0, "päivää"),
    graph.Text(0, 17),
    graph.Ids(1, (0, 2**31 - 1)),
    graph.Special(1, "<|im_end|>"),
    graph.Role(0, "assistant", "begin"),
    graph.Fill(0, 4),
    graph.Gen(0, 1, 2**63, Sampling()),
    graph.Gen(
        0,
        1,
        5,
        Sampling(
            max_tokens=1,
            n=3,
            temperature=0.5,
            stop=("a", "\n"),
            stop_token_ids=(2,),
            logit_bias={5: -1.0},
            seed=-(2**63),
            logprobs=2,
        ),
        0,
    ),
    graph.Select(0, 2, 3, ("yes", "no"), "greedy_token_selection", 0.5, True),
    graph.Fork(0, (1, 2)),
    graph.Join(0, (1, 2)),
    graph.Let(5, "concat", ("-", graph.ValueRef(1), 3, 0.5, True, None)),
    graph.Let(7, "pick", (graph.ValueRef(1), 0, graph.ValueRef(2))),
    graph.Root(4, session="chat"),
    graph.Gen(
        0,
        1,
        5,
        Sampling(),
        None,
        3,
        2,
        graph.Reasoning(9, "<t>", "</t>", 64, True, True),
        stopped_by=10,
    ),
    graph.Score(0, 11, "yes"),
    graph.Score(0, 11, graph.ValueRef(1)),
    graph.Mark(0, 12, "begin"),
    graph.Call(0, 13, 2, (graph.ValueRef(1), "x", 3), 0.5),
    graph.Elect((1, 2), (5, 6), (7,), 14, "first"),
    graph.Loop(
        0,
        (
            graph.Text(0, "x"),
            graph.Switch(
                0,
                3,
                (graph.Case("a", (graph.Fill(0, 3),)), graph.Case(None, (graph.Stop(0),))),
                (graph.Out(15, (3, None)),),
            ),
        ),
        5,
        (graph.Carry(16, None, 17),),
        until=18,
        over=19,
        item=20,
        index=21,
        outs=(graph.Out(22, (17,)),),
    ),
    graph.Stop(0),
    graph.Switch(0, 3, (graph.Case(True),)),
    graph.ForkOver(0, 19, 8, (graph.Text(8, "y"),), 23, 24, (graph.Out(25, (26,)),)),
    graph.Save(0, "chat", (("answer", 1),), 60.0),
    graph.Recall(0, 27, "answer"),
    graph.Recall(0, 29, what="turns"),
    graph.Pin(0, 28, "rules", 60.0),
    graph.TextOf(0, 6),
    graph.Drop(2),
)

REQUESTS: tuple[message.Request, ...] = (
    message.Hello(1, "furcate/0"),
    message.Segments(0, ("a", "", "\U0001f600")),
    message.Constraints(0, (Constraint(kind="regex", body="a+", engine="llguidance"),)),
    message.Graph(
        2**63,
        0,
        NODES,
        True,
        message.Options(seed=2**64 - 1, stream=True, priority=-3, template="append"),
    ),
    message.Graph(0, 2, (), False),
    message.Batch(
        message.Graph(1, 0, (graph.Text(0, "a"),), True, message.Options(seed=1)),
        (2, 3),
        (4, 5),
        (message.Column(0, (2,), ("b", 7)), message.Column(0, ("x", 1), (None, 0.5))),
    ),
    message.Answer(1, 2, ["a", 3, [True, None]]),
    message.Answer(1, 2, code="usage", message="no"),
    message.Unpin("rules"),
    message.Ask(3, "flush_cache"),
    message.Cancel(1),
    message.Cancel(1, 2),
    message.Release((1, 2)),
    message.Bye(),
)

LOGPROB = TokenLogprob(None, 3, "x", (Alternative(-0.5, 4, "y"),))
EVENTS: tuple[message.Event, ...] = (
    message.Welcome(1, "smollm2", "f" * 64, 8192),
    message.Refused("wire", "no"),
    message.Delta(1, 2, 3, 0, "text"),
    message.Value(1, 2, ["a", "b"], ValueMeta(finish="eos", finishes=("eos", "length"))),
    message.Value(1, 2, True),
    message.Value(1, 2, None),
    message.Value(1, 2, -(2**63)),
    message.Value(
        1,
        2,
        0,
        ValueMeta(
            matched="\n",
            usage=Usage(1, 2, 3, 4, 5, 6, 7, 8),
            logprobs=((LOGPROB,), ()),
            prompt_logprobs=(LOGPROB,),
            scores=ChoiceScores(
                ((LOGPROB,),), (-0.5,), (1.0,), 0.25, 1, ((-0.5,),), ((LOGPROB,),), (0.0,)
            ),
        ),
    ),
    message.Value(1, 2, ["a"], source=7),
    message.Invoke(1, 2, 3, ("a", 4, ["b"])),
    message.Info(3, {"model": "smollm2", "num_streams": 2}),
    message.Failed(1, 3, 0, None, "upstream", "why", "/properties"),
    message.Failed(1, 3, None, 2, "usage", "why"),
    message.Finished(1, Usage()),
    message.Finished(1, Usage(computed=3), "deadline", "late"),
)

ENGINE_REQUESTS: tuple[stream.EngineRequest, ...] = (
    stream.EngineHello(1),
    stream.OpenStream(0, 1),
    stream.OpenStream(3, 1, 0, 7, -5),
    stream.Append(
        3,
        (
            stream.Extend((1, 2, 3)),
            stream.Generate(Sampling(), 2**64 - 1, (b"\xff", b"x"), (2,), 0, True, 9, 3),
            stream.Choose(((1,), (2, 3)), 0, "greedy_token_selection", 0.5, (1,), 4),
            stream.Pin(2, 60.0, True),
            stream.End(),
        ),
    ),
    stream.Hint(3, path=4, num_waiting=1, next_use="idle", expect_s=0.5),
    stream.Unpin(2),
    stream.CancelStream(3),
    stream.DefineConstraint(0, Constraint(kind="json_schema", body="{}", whitespace="compact")),
    stream.DropConstraint(0),
    stream.AskEngine(4, True),
)

RESULT = ChoiceResult(1, ((-0.5,), (-1.0,)), (-0.5, -1.0), (0.6, 0.4), 0.9, ((0.0,),), ((0.0,),))
RAW = RawLogprob(-0.5, 7, ((-0.5, 7),))
ENGINE_EVENTS: tuple[stream.EngineEvent, ...] = (
    stream.EngineReady(1, "smollm2", "f" * 64, 8192, 49152),
    stream.Tokens(1, 2, (3, 4)),
    stream.NodeDone(1, 2, (3,), "stop", Usage(), b"\n\xff", (RAW,), (RawLogprob(None, 1),)),
    stream.NodeDone(1, 2, (3,), "choice", Usage(), choice=RESULT),
    stream.StreamEnded(1, Usage(computed=5)),
    stream.StreamEnded(1, Usage(), "constraint", 2, "why", "/a"),
    stream.EngineFacts(4, {"cached_tokens": 7}),
)

DIRECTIONS: dict[str, tuple[tuple[Any, ...], Callable[[bytes], list[Any]], Any]] = {
    "requests": (REQUESTS, decode_requests, message.Request),
    "events": (EVENTS, decode_events, message.Event),
    "engine requests": (ENGINE_REQUESTS, decode_engine_requests, stream.EngineRequest),
    "engine events": (ENGINE_EVENTS, decode_engine_events, stream.EngineEvent),
}
directions = pytest.mark.parametrize("direction", DIRECTIONS)


@directions
def test_every_message_comes_back_equal(direction: str) -> None:
    messages, decode, _ = DIRECTIONS[direction]
    for each in messages:
        assert decode(encode([each])) == [each]
    assert decode(encode(messages)) == list(messages)
    assert decode(encode([])) == []


@directions
def test_the_examples_cover_every_type_of_the_direction(direction: str) -> None:
    messages, _, union = DIRECTIONS[direction]
    assert {type(each) for each in messages} == set(union.__args__)
    assert {type(node) for node in NODES} == set(graph.Node.__args__)


@directions
@given(st.binary(max_size=200))
def test_garbage_is_a_wire_error(direction: str, frame: bytes) -> None:
    _, decode, union = DIRECTIONS[direction]
    try:
        decoded = decode(frame)
    except WireError:
        return
    assert all(isinstance(each, union) for each in decoded)


@directions
@given(data=st.data())
def test_a_mutated_frame_is_a_wire_error_or_well_formed(
    direction: str, data: st.DataObject
) -> None:
    messages, decode, union = DIRECTIONS[direction]
    frame = bytearray(encode([data.draw(st.sampled_from(messages))]))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(frame) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "delete"])):
            case "flip":
                frame[place] = data.draw(st.integers(0, 255))
            case "cut" if place:
                del frame[place:]
            case "insert":
                frame[place:place] = data.draw(st.binary(min_size=1, max_size=4))
            case "delete" if len(frame) > 1:
                del frame[place]
    try:
        decoded = decode(bytes(frame))
    except WireError:
        return
    assert all(isinstance(each, union) for each in decoded)
    assert decode(encode(decoded)) == decoded or "nan" in repr(decoded)


@directions
@pytest.mark.parametrize("depth", [100, 10_000, 1_000_000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a", b"\xdd\x00\x00\x00\x01"])
def test_deep_nesting_is_a_wire_error(direction: str, opening: bytes, depth: int) -> None:
    with pytest.raises(WireError):
        DIRECTIONS[direction][1](opening * depth + b"\xc0")


@directions
@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xdd\xff\xff\xff\xff",  # a list of four thousand million elements that are not there
        b"\x91\xdb\xff\xff\xff\xffx",  # a string as long
        b"\x91\x92\xa5hello\xa5\xff\xff\xff\xff\xff",  # bytes that are no text
        encode(REQUESTS[:1]) + b"\x00",
        b"cposix\nsystem\n(S'true'\ntR.",
    ],
    ids=["empty", "long list", "long text", "no utf-8", "trailing byte", "pickle"],
)
def test_a_frame_that_lies_about_itself_is_a_wire_error(direction: str, frame: bytes) -> None:
    with pytest.raises(WireError):
        DIRECTIONS[direction][1](frame)


@pytest.mark.parametrize(
    ("field", "value"),
    [(1, -1), (1, 2**31), (2, -1), (2, 1.5), (2, None), (2, [])],
)
def test_a_node_with_a_field_out_of_its_range_is_a_wire_error(field: int, value: object) -> None:
    node: list[object] = ["fill", 0, 0]
    node[field] = value
    with pytest.raises(WireError):
        decode_requests(msgspec.msgpack.encode([["graph", 0, 0, [node]]]))


def test_a_frame_over_the_limit_is_refused_unread() -> None:
    frame = memoryview(bytearray(MAX_FRAME_BYTES + 1))
    with pytest.raises(WireError, match="limit"):
        decode_requests(frame)


SITE = 0x1234567890ABCDEF
TYPICAL = (
    graph.Text(3, 17),
    graph.Text(3, "Question: what is the capital of it?\n"),
    graph.Role(3, "assistant", "begin"),
    graph.Fill(3, 40),
    graph.Gen(3, 40, SITE, Sampling(max_tokens=60, temperature=0.0, stop=("\n",))),
    graph.Select(3, 41, SITE, ("yes", "no", "maybe")),
    graph.Fork(3, (4, 5, 6)),
    graph.Join(3, (4, 5, 6)),
    graph.Let(42, "concat", ("\n", graph.ValueRef(40), graph.ValueRef(41))),
    graph.TextOf(3, 43, turns=True),
)


def num_bytes(*nodes: graph.Node) -> int:
    return len(encode([message.Graph(1, 0, nodes)])) - len(encode([message.Graph(1, 0, ())]))


def test_a_node_costs_sixty_bytes_at_most_on_average_and_none_much_more() -> None:
    assert num_bytes(*TYPICAL) <= 60 * len(TYPICAL)
    assert {type(node).__name__: num_bytes(node) for node in TYPICAL if num_bytes(node) > 70} == {}
