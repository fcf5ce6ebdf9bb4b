"""The invariants of a batcher: where each stream is, and how far it has got. For tests."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .batcher import Batcher
    from .stream import Stream

__all__ = ["check_batcher"]


def check_batcher(batcher: Batcher, streams: Sequence[Stream]) -> None:
    """AssertionError unless all bookkeeping fits together; `streams` are all that are open."""
    batcher.cache.check()
    batcher.prospects.check(streams)
    running = set(batcher.running)
    assert len(running) == len(batcher.running), "a stream runs twice"
    for stream in streams:
        assert stream.queued == (stream in batcher.waiting)
        assert (stream.lease is not None) == (stream in running)
        assert not (stream.queued and stream in running), f"stream {stream.id} is queued twice"
        if stream.lease is not None:
            assert stream.computed <= stream.scheduled <= stream.lease.length
            assert stream.lease.inserted <= stream.scheduled
        else:
            assert stream.computed == stream.scheduled == len(stream.in_flight) == 0
        assert not any(row.is_void for row in stream.in_flight)
        assert stream.computed <= len(stream.tokens)
    known = set(streams)
    assert all(stream in known for stream in chain(batcher.running, batcher.waiting))
