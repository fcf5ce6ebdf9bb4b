"""Sessions, pins and questions over the wire: what one client leaves, another finds, and an engine
that ends takes none of it along but its cache."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.e2e.demo import Server

import furcate as fc

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@fc.function
def begins(s: fc.ProgramState) -> None:
    s += fc.user("Tell me about Porto.")
    s += fc.assistant(fc.gen("first", max_tokens=8))
    s.save("chat")


@fc.function
def goes_on(s: fc.ProgramState) -> None:
    s += fc.user("And then?")
    s += fc.assistant(fc.gen("second", max_tokens=8))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("test:context", "--kv-bytes", "1MiB", "--threads", "1", start_s=60.0) as server:
        yield server


def engine_of(server: Server) -> int:
    (engine,) = psutil.Process(server.process.pid).children()
    return engine.pid


def test_a_session_is_there_for_another_client_and_for_another_engine(server: Server) -> None:
    with fc.connect(server.address) as one:
        first = begins.run(backend=one, seed=1)
        messages = first.messages()
    with fc.connect(server.address) as other:
        before = goes_on.open(session="chat").run(backend=other, seed=1)
        assert before.messages()[:2] == messages
        steps = fc.get_server_info(other)["steps"]
        assert isinstance(steps, int)
        assert steps > 0
        os.kill(engine_of(server), signal.SIGKILL)
        after = goes_on.open(session="chat").run(backend=other, seed=1)
        assert after.text() == before.text()
        assert after["first"] == before["first"]
        facts = fc.get_server_info(other)
        assert (facts["sessions"], facts["backend"], facts["clients"]) == (1, "server", 1)


def test_what_is_pinned_is_reused_until_it_is_unpinned(server: Server) -> None:
    with fc.connect(server.address) as client:
        with begins.pin(backend=client) as pinned:
            facts = fc.get_server_info(client)
            assert facts["cache_tokens_pinned"] == pinned.tokens > 20
            cached = begins.run(backend=client).get_meta_info("first")["cached_tokens"]
            assert cached == pinned.tokens - 1  # the last one's logits are needed
        assert fc.flush_cache(client)["cache_tokens_reusable"] == 0
