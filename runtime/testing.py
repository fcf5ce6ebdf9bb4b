"""Models without weights and an engine driven by hand, for furcate's tests and its users'.

The *context model* reads its KV back through the page table and hashes what it finds: any wrong
page, slot, length or order changes its output. The *scripted model* reads the same way and asks a
function what comes next. Both take microseconds a step. Nothing here sleeps or starts a thread.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import numpy as np
import torch

from furcate.errors import ModelError
from furcate.protocol.message import PROTOCOL_VERSION
from furcate.protocol.stream import EngineReady, NodeDone, StreamEnded
from furcate.runtime.config import ScheduleConfig
from furcate.runtime.constrain.service import CompileService
from furcate.runtime.engine.executor import ModelExecutor
from furcate.runtime.scheduler.scheduler import Scheduler
from furcate.runtime.tokenize.byte_level import ByteTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from furcate.protocol.stream import EngineEvent, EngineRequest
    from furcate.runtime.cache import Eviction
    from furcate.runtime.clock import Clock
    from furcate.runtime.engine.batch import ForwardBatch, Model
    from furcate.runtime.engine.executor import Draw, Score, StepResult
    from furcate.runtime.scheduler.masks import MaskFiller
    from furcate.runtime.tokenize.base import TextCodec

__all__ = [
    "ContextModel",
    "LateExecutor",
    "ManualClock",
    "ScriptedModel",
    "StepEngine",
    "make_scheduler",
    "model_named",
    "reply_with",
]


class LateExecutor:
    """An executor that does everything as late as it may, when a forward is collected: the other
    extreme from ModelExecutor. What changes meanwhile and should not have is seen."""

    is_asynchronous = True

    def __init__(self, model: Model, num_pages: int, page_size: int) -> None:
        self._inner = ModelExecutor(model, num_pages, page_size)
        self._steps: dict[int, tuple[ForwardBatch, list[Draw], Sequence[Score]]] = {}
        self._seq = 0

    @property
    def vocab_size(self) -> int:
        return self._inner.vocab_size

    @property
    def max_context(self) -> int:
        return self._inner.max_context

    @property
    def num_pages(self) -> int:
        return self._inner.num_pages

    @property
    def page_size(self) -> int:
        return self._inner.page_size

    def submit(
        self, batch: ForwardBatch, draws: Sequence[Draw] = (), scores: Sequence[Score] = ()
    ) -> int:
        self._seq += 1
        self._steps[self._seq] = (batch, [*draws], scores)
        return self._seq

    def draw(self, seq: int, draws: Sequence[Draw]) -> None:
        if seq != self._seq:
            raise ValueError(f"forward {seq!r} is not the last one submitted, {self._seq!r}")
        self._steps[seq][1].extend(draws)

    def is_done(self, seq: int) -> bool:
        return False

    def collect(self, seq: int) -> StepResult:
        batch, draws, scores = self._steps.pop(seq)
        return self._inner.collect(self._inner.submit(batch, draws, scores))

    def read_page(self, page: int) -> bytes:
        return self._inner.read_page(page)

    def close(self) -> None:
        self._inner.close()


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


class _PagedTokens:
    """KV pages that hold the id and position of each token instead of tensors, both plus one: what
    was never written is zero, and takes no memory."""

    def __init__(self, num_pages: int, page_size: int) -> None:
        self.page_size = page_size
        self.ids = np.zeros((num_pages, page_size), np.int64)
        self.positions = np.zeros((num_pages, page_size), np.int64)

    def write(self, batch: ForwardBatch) -> None:
        """Stores the batch's tokens, then executes its copies, as a layer of a real model does."""
        rows = np.repeat(np.arange(batch.num_rows), np.diff(batch.row_starts))
        pages = batch.page_table[rows, batch.positions // self.page_size]
        offsets = batch.positions % self.page_size
        self.ids[pages, offsets] = batch.token_ids + 1
        self.positions[pages, offsets] = batch.positions + 1
        for copy in batch.copies:
            for cells in (self.ids, self.positions):
                cells[copy.target, : copy.num_tokens] = cells[copy.source, : copy.num_tokens]

    def read(self, batch: ForwardBatch, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What token `index` of the batch attends to: ids and positions, as found in its pages."""
        row = int(np.searchsorted(batch.row_starts, index, side="right")) - 1
        length = int(batch.positions[index]) + 1
        pages = batch.page_table[row, : -(-length // self.page_size)]
        return self.ids[pages].ravel()[:length] - 1, self.positions[pages].ravel()[:length] - 1


class _PagedModel:
    kv_bytes_per_token = 16

    def __init__(self, vocab_size: int, max_context: int) -> None:
        self.vocab_size = vocab_size
        self.max_context = max_context
        self.num_forwards = 0
        self.num_tokens = 0
        self._kv = _PagedTokens(0, 1)

    def allocate(self, num_pages: int, page_size: int) -> None:
        self._kv = _PagedTokens(num_pages, page_size)

    def read_page(self, page: int) -> bytes:
        return bytes(self._kv.ids[page].tobytes() + self._kv.positions[page].tobytes())

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        self.num_forwards += 1
        self.num_tokens += batch.num_tokens
        self._kv.write(batch)
        logits = np.empty((len(batch.logit_indices), self.vocab_size), np.float32)
        for row, index in zip(logits, batch.logit_indices, strict=True):
            ids, positions = self._kv.read(batch, int(index))
            row[:] = self.logits(ids, positions)
        return torch.from_numpy(logits)

    def logits(self, ids: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        raise AssertionError("each model says what follows")


class ContextModel(_PagedModel):
    """The next token is a seeded hash of every id and position read from the KV pages.

    `likely` ids (default: printable ASCII and `end_ids`) are far likelier than the rest, so that
    text looks like text and ends now and then.
    """

    def __init__(
        self,
        vocab_size: int = 259,
        *,
        max_context: int = 4096,
        seed: int = 0,
        likely: Sequence[int] = tuple(range(32, 127)),
        end_ids: Sequence[int] = (258,),
    ) -> None:
        super().__init__(vocab_size, max_context)
        self._seed = np.uint64(seed)
        self._bias = np.zeros(vocab_size, np.float32)
        self._bias[[*likely, *end_ids]] = 8.0
        self._lanes = np.arange(1, vocab_size + 1, dtype=np.uint64)

    def logits(self, ids: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        places = positions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        read = _mix(_mix(places + self._seed) ^ ids.astype(np.uint64))
        state = _mix(read.sum(dtype=np.uint64, keepdims=True))
        bits = _mix(state ^ _mix(self._lanes)) >> np.uint64(40)  # 24 of them
        return (self._bias + 4.0 * bits.astype(np.float32) / 2**24).astype(np.float32)


class _FatalModel(ContextModel):
    def logits(self, ids: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        if b"fatal" in bytes(ids[ids < 256].tolist()):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().logits(ids, positions)


class ScriptedModel(_PagedModel):
    """The next token is what `follow(ids)` says of all ids before it, with near certainty."""

    def __init__(
        self,
        follow: Callable[[list[int]], int],
        vocab_size: int = 259,
        *,
        max_context: int = 4096,
    ) -> None:
        super().__init__(vocab_size, max_context)
        self._follow = follow

    def logits(self, ids: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        row = np.full(self.vocab_size, -30.0, np.float32)
        row[self._follow(ids.tolist())] = 0.0
        return row


def model_named(name: str) -> Model:
    """The model that `--model test:NAME` means: `context`; `endless`, which says "a" until its
    budget is spent; or `fatal`, which is `context` but kills its process when it reads "fatal"."""
    if name == "context":
        return ContextModel()
    if name == "endless":
        return ScriptedModel(lambda ids: ord("a"))
    if name == "fatal":
        return _FatalModel()
    raise ModelError(f"there is no test model {name!r}; there are 'context', 'endless' and 'fatal'")


def reply_with(
    replies: dict[str, str], codec: TextCodec | None = None, end_id: int = 258
) -> Callable[[list[int]], int]:
    """A script: after a text that ends with a key comes its reply, then `end_id`. The key that
    occurs last in the text counts; after text with none of them the end comes at once."""
    codec = codec or ByteTokenizer()
    script = [(codec.encode(key), [*codec.encode(reply), end_id]) for key, reply in replies.items()]

    def follow(ids: list[int]) -> int:
        for at in range(len(ids), -1, -1):
            for key, reply in script:
                said = ids[at:]
                if ids[at - len(key) : at] == key and at >= len(key) and reply[: len(said)] == said:
                    return reply[len(said)] if len(said) < len(reply) else end_id
        return end_id

    return follow


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def make_scheduler(
    model: Model,
    *,
    codec: TextCodec | None = None,
    num_pages: int = 256,
    page_size: int = 16,
    config: ScheduleConfig | None = None,
    constraints: CompileService | None = None,
    overlap: bool = False,
    eviction: Eviction = "next-use",
    clock: Clock | None = None,
    masks: MaskFiller | None = None,
) -> Scheduler:
    """A scheduler over `model` that checks every invariant after every step. `overlap`: a step is
    launched before the one before it is collected, as with native models."""
    codec = codec or ByteTokenizer()
    return Scheduler(
        executor=(LateExecutor if overlap else ModelExecutor)(model, num_pages, page_size),
        constraints=constraints or CompileService(codec, model.vocab_size, workers=False),
        table=codec.table,
        ready=EngineReady(
            PROTOCOL_VERSION, "test", codec.fingerprint, model.max_context, model.vocab_size
        ),
        config=config or ScheduleConfig(check_invariants=True),
        eviction=eviction,
        clock=clock or ManualClock(),
        masks=masks,
    )


class StepEngine:
    """A scheduler driven step by step, with everything it said kept and checked.

    A stream that ends twice, or that speaks after its end, is an AssertionError.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.events: list[EngineEvent] = []
        self.ended: dict[int, StreamEnded] = {}
        self.num_steps = 0

    def send(self, *requests: EngineRequest) -> None:
        self.scheduler.handle(requests)

    def step(self) -> list[EngineEvent]:
        events = self.scheduler.step()
        self.num_steps += 1
        for event in events:
            stream = getattr(event, "stream", None)
            assert stream not in self.ended, f"stream {stream} spoke after its end: {event}"
            if isinstance(event, StreamEnded):
                self.ended[event.stream] = event
        self.events += events
        return events

    def run(self, max_steps: int = 10_000) -> list[EngineEvent]:
        """Steps until there is nothing to do; the events."""
        events: list[EngineEvent] = []
        for _ in range(max_steps):
            if not self.scheduler.has_work:
                return events
            events += self.step()
        raise AssertionError(f"still busy after {max_steps} steps")

    def done(self, stream: int) -> list[NodeDone]:
        """What the nodes of a stream gave, in order."""
        return [e for e in self.events if isinstance(e, NodeDone) and e.stream == stream]
