"""Any sequence of cache operations, executed on simulated KV, reads back what was written.

A cell of the simulated KV holds the whole token prefix that it stands for, so that a wrong page,
offset, order or sharing shows as a wrong cell. Forwards are launched and completed separately, up
to two in flight, each as the executor does it: all writes, then the copies in order, then reads.
What is said about next uses is kept naively beside it, and each victim of eviction compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.runtime.cache.naive import NaiveBooks, Prefix, WatchedOrder

from furcate.runtime.cache import Copy, KVCache, Lease, LeaseState, NextUse, Pending
from furcate.runtime.cache.node import path

MAX_IN_FLIGHT = 2
MAX_STREAMS = 6
MAX_WORDS = 8
USES = [NextUse.UNKNOWN, NextUse.IDLE, NextUse.IDLE, NextUse.SCHEDULED, NextUse.PINNED]
TIMES = st.none() | st.integers(0, 3).map(float)
TEXTS = [[0] * 40, [1, 0] * 20, [0] * 17 + [1] * 20]


@dataclass
class Row:
    """Positions `first` to `stop` computed in one forward, through a table as it was then."""

    stream: Stream
    table: list[int]
    tokens: list[int]
    first: int
    stop: int


@dataclass
class Step:
    number: int
    rows: list[Row] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    is_spoiled: bool = False  # it still writes, but nobody relies on what it reads


@dataclass(eq=False, repr=False)
class Stream:
    lease: Lease
    namespace: str
    tokens: list[int]
    steps: list[int]  # by position: the forward that computes it
    owner: int

    @property
    def inserted(self) -> Prefix:
        return self.namespace, tuple(self.tokens[: self.lease.inserted])

    def __repr__(self) -> str:
        return f"{self.lease!r} computed at {self.steps!r}"


class SimulatedKV:
    """Pages of cells, and the forward that fills them."""

    def __init__(self, num_pages: int, page_size: int) -> None:
        self.page_size = page_size
        self.cells: list[list[tuple[int, ...] | None]] = [
            [None] * page_size for _ in range(num_pages)
        ]

    def execute(self, step: Step) -> None:
        for row in step.rows:
            for position in range(row.first, row.stop):
                page, offset = row.table[position // self.page_size], position % self.page_size
                self.cells[page][offset] = tuple(row.tokens[: position + 1])
        for copy in step.copies:
            self.cells[copy.target][: copy.num_tokens] = self.cells[copy.source][: copy.num_tokens]
        for row in [] if step.is_spoiled else step.rows:
            self.expect(row.table, row.tokens, range(row.stop), row.stream.lease)

    def expect(self, table: list[int], tokens: list[int], positions: range, reader: object) -> None:
        for position in positions:
            cell = self.cells[table[position // self.page_size]][position % self.page_size]
            assert cell == tuple(tokens[: position + 1]), f"{reader!r} at {position} reads {cell}"


class CacheMachine(RuleBasedStateMachine):
    """The scheduler, the executor and several streams, all at random."""

    @initialize(
        num_pages=st.sampled_from([40, 24, 12, 6, 2, 1]),
        size=st.sampled_from([4, 16, 2, 1]),
        lru=st.sampled_from([False, False, False, True]),
    )
    def start(self, num_pages: int, size: int, lru: bool) -> None:
        self.cache = KVCache(num_pages, size, "lru" if lru else "next-use")
        self.books = NaiveBooks()
        if not lru:
            tree = self.cache.tree
            tree.order = WatchedOrder(tree.order, tree, self.books)
        self.kv = SimulatedKV(num_pages, size)
        self.plan = Step(1)
        self.in_flight: list[Step] = []
        self.streams: list[Stream] = []
        self.inserted: set[tuple[str, tuple[int, ...]]] = set()
        self.has_forgotten = False

    @precondition(lambda self: len(self.streams) < MAX_STREAMS)
    @rule(data=st.data(), text=st.integers(0, 2), namespace=st.sampled_from(["", "", "lora"]))
    def open(self, data: st.DataObject, text: int, namespace: str) -> None:
        """A stream that begins with a prefix of a common text, often computed and inserted."""
        length = data.draw(st.integers(0, len(TEXTS[text])), "length")
        tokens = TEXTS[text][:length] + data.draw(st.lists(st.integers(0, 1), max_size=2), "tail")
        launched = self.in_flight[-1].number if self.in_flight else self.cache.completed_step
        ready_by = data.draw(
            st.sampled_from([self.plan.number, launched, self.cache.completed_step]), "ready by"
        )
        expected, pending = self.naive_match(tokens, namespace, ready_by)
        owner = data.draw(st.integers(1, 3), "owner")
        lease = self.cache.open(tokens, namespace, ready_by=ready_by, owner=owner)
        if isinstance(lease, Pending):
            assert (lease.cached_len, lease.step) == (expected, pending)
            return
        assert pending == 0
        assert lease.cached_len == lease.inserted == lease.length == expected
        stream = Stream(lease, namespace, tokens, [0] * expected, owner)
        self.streams.append(stream)
        self.books.use(stream.inserted, owner)
        if data.draw(st.booleans(), "compute") and self.compute(stream, len(tokens), data):
            self.put_into_tree(stream, lease.length)

    @precondition(lambda self: self.streams)
    @rule(data=st.data(), count=st.integers(1, 9), insert=st.booleans())
    def advance(self, data: st.DataObject, count: int, insert: bool) -> None:
        stream = data.draw(st.sampled_from(self.streams), "stream")
        if self.compute(stream, len(stream.steps) + count, data) and insert:
            self.put_into_tree(stream, stream.lease.length)

    def compute(self, stream: Stream, stop: int, data: st.DataObject) -> bool:
        """Plan the stream's positions up to `stop`; false if there is no memory."""
        first, lease = len(stream.steps), stream.lease
        before = (lease.length, lease.held_from, lease.table.ids(0, 99), lease.node)
        copies = self.cache.extend(lease, stop, self.plan.number)
        self.books.trim(self.cache.tree)
        if copies is None:
            assert before == (lease.length, lease.held_from, lease.table.ids(0, 99), lease.node)
            num_new = self.cache.pages_for(stop) - self.cache.pages_for(first)
            if not self.cache.pool.num_fenced:
                assert self.cache.num_available <= num_new
            return False
        missing = max(0, stop - len(stream.tokens))
        stream.tokens.extend(
            data.draw(st.lists(st.integers(0, 1), min_size=missing, max_size=missing), "tokens")
        )
        self.plan.copies.extend(copies)
        table = lease.page_table().tolist()
        self.plan.rows.append(Row(stream, table, stream.tokens[:stop], first, stop))
        stream.steps.extend([self.plan.number] * (stop - first))
        return True

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def insert(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(self.streams), "stream")
        upto = data.draw(st.integers(stream.lease.inserted, stream.lease.length), "upto")
        self.put_into_tree(stream, upto)

    def put_into_tree(self, stream: Stream, upto: int) -> None:
        lease = stream.lease
        ready_step = max(stream.steps[lease.inserted : upto], default=0)
        reached = self.cache.insert(
            lease, stream.tokens, upto, ready_step, fence_step=self.plan.number
        )
        assert lease.inserted == reached <= upto
        self.books.use(stream.inserted, stream.owner)
        for length in range(1, reached + 1):
            self.inserted.add((stream.namespace, tuple(stream.tokens[:length])))

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(self.streams))
        if stream.lease.last_step == self.plan.number:
            return  # one forward computes a position once
        length = data.draw(st.integers(stream.lease.inserted, stream.lease.length))
        self.cache.truncate(stream.lease, length, fence_step=self.plan.number)
        del stream.tokens[length:], stream.steps[length:]

    @precondition(lambda self: 0 < len(self.streams) < MAX_STREAMS)
    @rule(data=st.data())
    def branch(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(self.streams))
        lease = self.cache.branch(stream.lease)
        tokens = stream.tokens[: lease.length]
        self.streams.append(
            Stream(lease, stream.namespace, tokens, list(stream.steps), stream.owner)
        )

    @precondition(lambda self: len(self.streams) > 1)
    @rule(data=st.data())
    def adopt(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(self.streams))
        others = [s for s in self.streams if s is not stream and s.namespace == stream.namespace]
        if not others:
            return
        branch = data.draw(st.sampled_from(others))
        given_up = stream.inserted
        self.cache.adopt(stream.lease, branch.lease, fence_step=self.plan.number)
        stream.tokens, stream.steps = branch.tokens, branch.steps
        stream.owner = branch.owner
        self.books.release(given_up, is_dead=False)
        self.streams.remove(branch)

    def end(self, stream: Stream, dead: bool = False) -> None:
        self.streams.remove(stream)
        self.books.release(stream.inserted, dead)
        for each in (dead, not dead):  # the second call does nothing
            self.cache.release(stream.lease, fence_step=self.plan.number, dead=each)

    def say(self, stream: Stream, use: NextUse, at: float | None) -> None:
        expectation = self.cache.expect(stream.lease, use, at)
        self.books.expect(expectation, stream.inserted, use, at)

    @precondition(lambda self: self.streams and len(self.books.words) < MAX_WORDS)
    @rule(data=st.data(), use=st.sampled_from(USES), at=TIMES)
    def expect(self, data: st.DataObject, use: NextUse, at: float | None) -> None:
        self.say(data.draw(st.sampled_from(self.streams), "stream"), use, at)

    @precondition(lambda self: hasattr(self, "books") and self.books.words)
    @rule(data=st.data(), use=st.sampled_from(USES), at=TIMES)
    def revise(self, data: st.DataObject, use: NextUse, at: float | None) -> None:
        word = data.draw(st.sampled_from(self.books.words), "word")
        self.cache.revise(word.expectation, use, at)
        word.use, word.at = use, at

    @precondition(lambda self: hasattr(self, "books") and self.books.words)
    @rule(data=st.data(), dead=st.booleans())
    def forget(self, data: st.DataObject, dead: bool) -> None:
        word = data.draw(st.sampled_from(self.books.words), "word")
        self.books.forget(word, dead)
        for each in (dead, not dead):  # the second call does nothing
            self.cache.forget(word.expectation, each)

    @rule(
        data=st.data(),
        kind=st.sampled_from(["release", "release", "release", "evict", "evict", "fail"]),
    )
    def disturb(self, data: st.DataObject, kind: str) -> None:
        """What takes things away, in one rule so that it does not happen too often."""
        if kind == "evict":
            num_pages = data.draw(st.integers(1, 4), "pages")
            available = self.cache.pool.num_evictable
            assert self.cache.evict(num_pages) == min(num_pages, available)
            self.books.trim(self.cache.tree)
        elif kind == "release" and self.streams:
            stream = data.draw(st.sampled_from(self.streams), "stream")
            if data.draw(st.booleans(), "rest") and len(self.books.words) < MAX_WORDS:
                use = data.draw(st.sampled_from(USES), "use")
                self.say(stream, use, data.draw(TIMES, "at"))
            self.end(stream, data.draw(st.booleans(), "dead"))
        elif kind == "fail" and self.in_flight:
            self.fail()

    @precondition(lambda self: len(self.in_flight) < MAX_IN_FLIGHT)
    @rule()
    def launch(self) -> None:
        self.in_flight.append(self.plan)
        self.plan = Step(self.plan.number + 1)

    @rule()
    def drain(self) -> None:
        """Run everything that is planned or launched."""
        self.launch()
        while self.in_flight:
            self.complete()

    @precondition(lambda self: self.in_flight)
    @rule()
    def complete(self) -> None:
        step = self.in_flight.pop(0)
        self.kv.execute(step)
        self.cache.retire(step.number)

    def fail(self) -> None:
        """A failed forward spoils those launched after it, which still run, and the plan."""
        spoiled = [*self.in_flight, self.plan]
        lost: list[Lease] = []
        for step in spoiled:
            lost.extend(self.cache.drop_pending(step.number, self.plan.number))
            step.is_spoiled = True
        self.books.trim(self.cache.tree)
        assert all(lease.state is LeaseState.LOST for lease in lost)
        self.cache.check()
        for stream in list(self.streams):
            if stream.lease in lost or any(n >= spoiled[0].number for n in stream.steps):
                self.end(stream)
        self.cache.retire(self.in_flight.pop(0).number)
        self.plan = Step(self.plan.number)
        self.has_forgotten = True

    def naive_match(self, tokens: list[int], namespace: str, ready_by: int) -> tuple[int, int]:
        """The longest prefix among all paths of the tree, and the step it has to wait for."""
        prefixes: dict[tuple[int, ...], int] = {}
        for root in self.cache.tree.nodes():
            if root.parent is not None or getattr(root, "namespace", None) != namespace:
                continue
            stack = [((), root)]
            while stack:
                prefix, node = stack.pop()
                for length in range(1, len(node.tokens) + 1):
                    is_ready = length <= node.ready_len(ready_by)
                    prefixes[(*prefix, *node.tokens[:length])] = 0 if is_ready else node.ready_step
                below = (*prefix, *node.tokens)
                stack.extend((below, child) for child in node.children.values())
        matched = [length for length in range(1, len(tokens)) if tuple(tokens[:length]) in prefixes]
        steps = [prefixes[tuple(tokens[:length])] for length in matched]
        return max(matched, default=0), max(steps, default=0)

    @invariant()
    def books_agree(self) -> None:
        if hasattr(self, "cache"):
            self.cache.check()
            self.books.check(self.cache.tree)

    @invariant()
    def the_tree_holds_computed_kv(self) -> None:
        if not hasattr(self, "cache"):
            return
        size, found = self.cache.page_size, set()
        paths: dict[int, list[int]] = {}
        for node in self.cache.tree.nodes():
            above = [] if node.parent is None else paths[id(node.parent)]
            tokens = paths[id(node)] = [*above, *node.tokens]
            namespace = getattr(list(path(node))[-1], "namespace", "")
            found.update(
                (namespace, tuple(tokens[:n])) for n in range(node.start + 1, node.end + 1)
            )
            ready = node.start + node.ready_len(self.cache.completed_step)
            if ready > node.start:
                index = node.start // size
                table = [-1] * index + node.pages
                self.kv.expect(table, tokens, range(index * size, ready), node)
        assert found <= self.inserted
        if not self.has_forgotten and not self.cache.stats().evicted_tokens:
            assert found == self.inserted

    @invariant()
    def idle_leases_read_their_own_tokens(self) -> None:
        if not hasattr(self, "cache") or self.in_flight or self.plan.rows or self.plan.copies:
            return
        for stream in self.streams:
            table = stream.lease.page_table().tolist()
            self.kv.expect(table, stream.tokens, range(stream.lease.length), stream.lease)

    def teardown(self) -> None:
        if not hasattr(self, "cache"):
            return
        for stream in list(self.streams):
            self.end(stream)
        for step in [*self.in_flight, self.plan]:
            self.kv.execute(step)
            self.cache.retire(step.number)
        self.cache.check()
        stats = self.cache.stats()
        assert stats.private_pages == stats.tree_locked_pages == stats.fenced_pages == 0
        self.cache.evict(stats.total_pages)
        assert self.cache.stats().free_pages == stats.total_pages
        assert self.cache.tree.namespaces() == []
        assert all(word.expectation.place is None for word in self.books.words)


def run(max_examples: int, step_count: int) -> None:
    run_state_machine_as_test(
        CacheMachine,
        settings=settings(
            max_examples=max_examples,
            stateful_step_count=step_count,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
def test_any_sequence_of_operations_reads_back_what_was_written() -> None:
    run(max_examples=300, step_count=60)


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_very_many_sequences_of_operations_read_back_what_was_written() -> None:
    run(max_examples=2500, step_count=60)
