"""A stream of nodes: its tokens, its place in its nodes and in the cache.

State only; the scheduler alone writes it. The lengths obey `computed <= scheduled <= lease.length`,
and `scheduled` is at most one token that is being drawn, and what follows it, beyond `tokens`.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, fields
from itertools import chain, islice
from typing import TYPE_CHECKING

from furcate.protocol.message import Usage
from furcate.protocol.stream import Choose, Extend, Hint, Pin

if TYPE_CHECKING:
    from furcate.protocol.stream import OpenStream, RawLogprob, StreamNode
    from furcate.runtime.cache.lease import Lease

    from .generation import Generation
    from .step import StreamRow

__all__ = ["Counts", "Stream"]

NO_HINT = Hint(0)


@dataclass(slots=True)
class Counts:
    """Tokens of a stream by where they came from; the terms of protocol.message.Usage."""

    extended: int = 0
    completion: int = 0
    reused: int = 0
    same_step: int = 0
    computed: int = 0
    decoded: int = 0
    forced: int = 0

    def copy(self) -> Counts:
        return Counts(*(getattr(self, item.name) for item in fields(self)))

    def since(self, before: Counts, prompt: int) -> Usage:
        """The usage between two snapshots, behind `prompt` tokens."""
        return Usage(
            prompt=prompt,
            completion=self.completion - before.completion,
            reused=self.reused - before.reused,
            same_step=self.same_step - before.same_step,
            computed=self.computed - before.computed,
            decoded=self.decoded - before.decoded,
            forced=self.forced - before.forced,
        )


@dataclass(slots=True, eq=False)
class Stream:
    """`ends[k]` is the length after k nodes, so `ends[0]` is what was inherited."""

    id: int
    program: int
    priority: int = 0  # higher goes first
    arrival: int = 0  # ordinal of its opening
    deadline: float | None = None  # by the clock
    gang: tuple[int, int] | None = None  # the same for all children of a fork
    hint: Hint = NO_HINT
    namespace: str = ""  # it shares cached KV within it alone
    tokens: array[int] = field(default_factory=lambda: array("i"))
    computed: int = 0  # positions with valid KV under `lease`; 0 without one
    scheduled: int = 0  # positions that forwards have been launched for
    in_flight: list[StreamRow] = field(default_factory=list)  # its rows not collected yet, by step
    covered: int = 0  # most positions that ever had KV, for honest accounting of reuse
    lease: Lease | None = None  # while it runs
    queued: bool = False  # while it waits to run
    nodes: list[StreamNode] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    generation: Generation | None = None
    choice: Choose | None = None
    pin: Pin | None = None  # the active node, until all tokens before it are computed
    children: list[tuple[int, Stream]] = field(default_factory=list)  # not branched off yet
    prompt_logprobs: list[RawLogprob] = field(default_factory=list)  # of the first positions
    prompt_top: int = 0  # alternatives that each of these has
    counts: Counts = field(default_factory=Counts)
    node_counts: Counts = field(default_factory=Counts)  # as the active node began

    @classmethod
    def opened(cls, message: OpenStream, arrival: int, now: float) -> Stream:
        """At the time `now`; `arrival` is its ordinal."""
        parent, seconds = message.parent, message.deadline_s
        return cls(
            message.stream,
            message.program,
            priority=message.priority,
            arrival=arrival,
            deadline=None if seconds is None else now + seconds,
            gang=None if parent is None else (parent, message.parent_nodes),
            namespace=message.namespace,
        )

    @property
    def path(self) -> int:
        """Generations to come after this one, on the longest chain that depends on it."""
        return self.hint.path

    @property
    def num_waiting(self) -> int:
        """Branches that are held up for its value."""
        return self.hint.num_waiting

    @property
    def num_uncomputed(self) -> int:
        """Tokens that are known and have no KV."""
        return max(0, len(self.tokens) - self.computed)

    @property
    def is_dead(self) -> bool:
        """Nobody holds a handle on it any more."""
        return self.hint.next_use == "dead"

    @property
    def cursor(self) -> int:
        """Ordinal of the active node, or of the next one to arrive."""
        return len(self.ends) - 1

    @property
    def has_node(self) -> bool:
        return 0 <= self.cursor < len(self.nodes)

    @property
    def is_scheduled(self) -> bool:
        """It runs or waits to run."""
        return self.queued or self.lease is not None

    @property
    def is_busy(self) -> bool:
        """A node is active that needs forwards."""
        return not (self.generation is None and self.choice is None and self.pin is None)

    @property
    def is_decoding(self) -> bool:
        """The active generation has produced tokens already."""
        return self.generation is not None and self.generation.index > 0

    @property
    def awaits_constraint(self) -> bool:
        """The active generation has a constraint that is not compiled yet, or not made its mask."""
        active = self.generation
        if active is None or active.node.constraint is None:
            return False
        return active.matcher is None or active.is_late

    @property
    def target(self) -> int:
        """How many positions the active node needs computed."""
        if self.choice is not None or self.pin is not None:
            return len(self.tokens)
        if self.generation is None:
            return 0
        return len(self.tokens) - 1 if self.awaits_constraint else len(self.tokens)

    def future(self, step: int) -> int | None:
        """The draw of the step before `step` that gives the token behind all known ones."""
        row = self.in_flight[-1] if self.in_flight else None
        if row is None or row.step != step - 1 or row.generation is not self.generation:
            return None
        return row.draw

    def void(self, length: int) -> None:
        """Rows in flight beyond `length` are nobody's."""
        while self.in_flight and self.in_flight[-1].end > length:
            row = self.in_flight.pop()
            row.is_void = True
            self.scheduled = row.begin

    @property
    def texts_behind(self) -> list[Extend]:
        """The nodes right behind the active one that need no forward to be known."""
        texts: list[Extend] = []
        for node in islice(self.nodes, self.cursor + 1, None):
            if not isinstance(node, Extend):
                break
            texts.append(node)
        return texts

    @property
    def constants(self) -> array[int]:
        """The ids of these, without the last one before a choice, which is computed together with
        the choices."""
        texts = self.texts_behind
        ids = array("i", chain.from_iterable(text.ids for text in texts))
        end = self.cursor + 1 + len(texts)
        is_choice = end < len(self.nodes) and isinstance(self.nodes[end], Choose)
        return ids[:-1] if is_choice else ids

    @property
    def needs_prompt_logprobs(self) -> bool:
        """The active generation reports log-probabilities of its prompt and they are not all
        there."""
        active = self.generation
        return (
            active is not None
            and active.node.sampling.prompt_logprobs is not None
            and len(self.prompt_logprobs) < active.start
        )

    @property
    def usage(self) -> Usage:
        return self.counts.since(Counts(), self.counts.extended)
