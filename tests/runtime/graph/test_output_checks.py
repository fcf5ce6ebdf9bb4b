"""What the engine calls complete is checked: a constraint that lied would be a failed node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from furcate.protocol.constraint import Constraint
from furcate.protocol.graph import Gen, Text
from furcate.protocol.message import (
    PROTOCOL_VERSION,
    Constraints,
    Failed,
    Graph,
    Hello,
    Options,
    Usage,
    Value,
)
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import Append, EngineReady, Generate, NodeDone
from furcate.runtime.graph import Front
from furcate.runtime.tokenize.byte_level import ByteTokenizer

if TYPE_CHECKING:
    from typing import Literal

    from furcate.protocol.message import Event

SCHEMA = Constraint(kind="json_schema", body='{"type": "integer", "maximum": 9}')
REGEX = Constraint(kind="regex", body="a+")


def answered(
    constraint: Constraint, output: bytes, finish: Literal["eos", "constraint", "length", "stop"]
) -> list[Event]:
    """What a client hears of one generation that the engine ended with `output`."""
    codec = ByteTokenizer()
    front = Front(codec, None, EngineReady(PROTOCOL_VERSION, "m", codec.fingerprint, 100, 259))
    front.connect("client")
    nodes = (Text(0, "x"), Gen(0, 0, 1, Sampling(), 0))
    front.handle(
        "client",
        [
            Hello(PROTOCOL_VERSION, "test"),
            Constraints(0, (constraint,)),
            Graph(0, 0, nodes, True, Options(seed=1)),
        ],
        0.0,
    )
    asked = [message for message in front.drain().to_engine if isinstance(message, Append)]
    ordinal = [node for message in asked for node in message.nodes]
    at = next(i for i, node in enumerate(ordinal) if isinstance(node, Generate))
    front.handle_engine([NodeDone(asked[0].stream, at, tuple(output), finish, Usage())], 0.0)
    return front.drain().to_clients["client"]


@pytest.mark.parametrize(
    ("constraint", "output", "finish"),
    [(SCHEMA, b"12", "constraint"), (SCHEMA, b"nonsense", "eos"), (REGEX, b"aab", "eos")],
    ids=["schema", "no json", "regex"],
)
def test_a_complete_output_that_does_not_fit_is_a_failed_node(
    constraint: Constraint, output: bytes, finish: Literal["eos", "constraint"]
) -> None:
    events = answered(constraint, output, finish)
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert (failed.code, failed.value, failed.node) == ("validation", 0, 1)
    assert output.decode() in failed.message
    assert not [event for event in events if isinstance(event, Value)]


@pytest.mark.parametrize(
    ("output", "finish"),
    [(b"7", "constraint"), (b"12", "length"), (b"12", "stop")],
    ids=["fits", "cut", "stopped"],
)
def test_an_output_that_fits_or_was_cut_is_a_value(
    output: bytes, finish: Literal["constraint", "length", "stop"]
) -> None:
    events = answered(SCHEMA, output, finish)
    assert [event.data for event in events if isinstance(event, Value)] == [output.decode()]
