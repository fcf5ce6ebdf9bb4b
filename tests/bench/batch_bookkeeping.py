"""What run_batch costs the client for each program: recording, writing, results; no runtime.

    python -m tests.bench.batch_bookkeeping [--items 10000] [--profile]

The channel answers from a table, at once and in the caller's thread; the time that it takes for
that itself is measured and left out. Prints microseconds a program of the process's CPU time, bytes
and messages, the greatest number of threads, and how much memory grows while results are handed out
and dropped.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import threading
import time
import tracemalloc
from collections import deque
from typing import TYPE_CHECKING

import furcate as fc
from furcate.protocol.batch import unpack
from furcate.protocol.codec import decode_events, encode
from furcate.protocol.graph import Gen
from furcate.protocol.message import (
    PROTOCOL_VERSION,
    Batch,
    Finished,
    Graph,
    Usage,
    Value,
    ValueMeta,
    Welcome,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from furcate.errors import FurcateError
    from furcate.protocol.message import Event, Request

CHUNK = 256  # programs in one message
PREFIX = "Rules of the house, which every request shares. " * 190  # 9 KB


class TableChannel:
    """Answers each generation with the same text. `own_s`: the time that this has taken."""

    def __init__(self) -> None:
        self.num_bytes_sent = 0
        self.own_s = 0.0

    def open(
        self, deliver: Callable[[Sequence[Event]], None], lost: Callable[[FurcateError], None]
    ) -> Welcome:
        self._deliver = deliver
        return Welcome(PROTOCOL_VERSION, "table", "none", 2**20)

    def send(self, requests: Sequence[Request]) -> None:
        self.num_bytes_sent += len(encode(requests))
        started = time.process_time()
        events: list[Event] = []
        for request in requests:
            if isinstance(request, Graph):
                _answer(request, events)
            elif isinstance(request, Batch):
                for graph in unpack(request):
                    _answer(graph, events)
        frame = encode(events)
        self.own_s += time.process_time() - started
        if events:
            self._deliver(decode_events(frame))

    def close(self) -> None:
        pass


META = ValueMeta(finish="eos", usage=Usage(10, 3, 0, 0, 10, 3))


def _answer(graph: Graph, events: list[Event]) -> None:
    for node in graph.nodes:
        if isinstance(node, Gen):
            events.append(Value(graph.program, node.value, "the answer", META))
    if graph.done:
        events.append(Finished(graph.program, META.usage))


@fc.function
def classify(s: fc.ProgramState, question: str) -> None:
    """Three roles behind a prefix that all share."""
    s += fc.system("You answer in one word.")
    s += fc.user(PREFIX + question)
    s += fc.assistant(fc.gen("answer", max_tokens=16, stop="\n"))


def items(count: int) -> list[dict[str, object]]:
    return [{"question": f"Is number {index} odd?"} for index in range(count)]


def results(count: int, backend: fc.Session) -> Iterator[fc.ProgramState]:
    return iter(classify.run_batch(items(count), backend=backend, generator_style=True))


def time_a_program(count: int) -> tuple[float, TableChannel, fc.Session, int]:
    channel = TableChannel()
    num_threads = 0
    with fc.Session(channel) as backend:
        deque(results(min(count, 1000), backend), maxlen=0)  # warm
        channel.own_s, channel.num_bytes_sent, backend.num_messages = 0.0, 0, 0
        started = time.process_time()
        for state in results(count, backend):
            assert state["answer"] == "the answer"
            num_threads = max(num_threads, threading.active_count())
        spent = time.process_time() - started - channel.own_s
    return spent / count, channel, backend, num_threads


def memory_growth(early: int, late: int, count: int) -> int:
    """Bytes that are held at item `late` and were not at item `early`."""
    held = dict.fromkeys((early, late), 0)
    tracemalloc.start()
    with fc.Session(TableChannel()) as backend:
        for index, state in enumerate(results(count, backend)):
            assert state["answer"]
            if index in held:
                gc.collect()
                held[index], _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held[late] - held[early]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(time_a_program, options.items)
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
        return
    for _ in range(3):
        seconds, channel, backend, num_threads = time_a_program(options.items)
        print(
            f"{seconds * 1e6:.1f} us a program, {channel.num_bytes_sent / options.items:.0f} bytes "
            f"a program, {backend.num_messages} messages, {num_threads} threads"
        )
    # Whole chunks apart, and far enough from the end that as much is recorded ahead.
    early = options.items // 5
    late = early + max((options.items - 1500 - early) // CHUNK, 1) * CHUNK
    grown = memory_growth(early, late, options.items)
    print(f"{grown / 1024:.0f} KiB more held at item {late} than at item {early}")


if __name__ == "__main__":
    main()
