"""What a program's options mean for its streams."""

from __future__ import annotations

from tests.fakes.front_driver import Driver

from furcate.protocol.graph import Gen, Score, Text
from furcate.protocol.message import Graph, Options
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import OpenStream


def test_priority_and_tenant_are_those_of_every_stream() -> None:
    driver = Driver()
    nodes = (Text(0, "a"), Gen(0, 0, 1, Sampling(n=2)), Score(0, 1, "b"))
    options = Options(seed=0, priority=-7, tenant="them")
    driver.send(Graph(0, 0, nodes, True, options))
    driver.run()
    opened = [request for request in driver.sent if isinstance(request, OpenStream)]
    assert len(opened) == 3
    assert {(stream.priority, stream.namespace) for stream in opened} == {(-7, "them")}
