"""Builds native programs and hands steps to the thread that runs them.

Keeps alive whatever a program points at. Does not know what a model is, nor whose a row is.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from furcate.kernels import structures
from furcate.kernels.library import check_sizes, declare
from furcate.kernels.sample.native import (
    SAMPLE_RESULT,
    SAMPLE_ROW,
    SCORE_ROW,
    SampleResults,
    ScoreResults,
)
from furcate.kernels.structures import (
    ACTIVATIONS,
    EPILOGUES,
    ROW_TYPES,
    Epilogue,
    KVPages,
    KVShape,
    RowType,
    StepAnswers,
    StepArrays,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.kernels.library import Library, Pool
    from furcate.kernels.linear.weight import LinearWeight
    from furcate.kernels.structures import Embedding

__all__ = ["Buffer", "ForwardBuilder", "ForwardExecutor", "HeadNorms", "StepBatch"]

COPY = np.dtype(structures.PageCopy)
NO_DRAWS, NO_SCORES = np.empty(0, SAMPLE_ROW), np.empty(0, SCORE_ROW)
KEPT_STEPS = 4  # whose results are valid; NUM_STEPS of executor.cpp

_SIZES = {
    mirror.__name__: mirror
    for mirror in (
        *(structures.Rows, structures.Norm, structures.RopeWrite, structures.Embedding),
        *(structures.Linear, structures.KVShape, structures.KVPages, structures.StepRows),
        *(structures.PageCopy, structures.Attention, structures.StepArrays),
        structures.StepAnswers,
    )
}


class SlotCopy(Protocol):
    @property
    def source(self) -> int: ...
    @property
    def target(self) -> int: ...
    @property
    def num_tokens(self) -> int: ...


class StepBatch(Protocol):
    """The arrays of a step, int32 and contiguous. A negative token id -(n + 1) stands for the token
    of draw n of the step before."""

    @property
    def token_ids(self) -> np.ndarray: ...  # [T]
    @property
    def positions(self) -> np.ndarray: ...  # [T]
    @property
    def row_starts(self) -> np.ndarray: ...  # [R + 1]
    @property
    def kv_lens(self) -> np.ndarray: ...  # [R]
    @property
    def page_table(self) -> np.ndarray: ...  # [R, max pages]
    @property
    def copies(self) -> Sequence[SlotCopy]: ...
    @property
    def logit_indices(self) -> np.ndarray: ...  # [L]


@dataclass(frozen=True, slots=True)
class Buffer:
    """Activations of a program: a row a token, or a row a logit."""

    number: int
    type: RowType
    width: int


@dataclass(frozen=True, slots=True, eq=False)
class HeadNorms:
    """Root-mean-square norms of every query head and of every key head."""

    query: np.ndarray  # float32 [head_dim]
    key: np.ndarray  # the same
    eps: float


class ForwardBuilder:
    """Adds operations in the order in which they run; `build` ends the program."""

    def __init__(
        self, pool: Pool, shape: KVShape, layers: ctypes.Array[KVPages], vocab_size: int
    ) -> None:
        self._pool = pool
        self._lib = _bind(pool.library)
        self._shape = shape
        self._vocab_size = vocab_size
        self._kept: list[object] = [layers]
        self._program = self._lib.fc_program_new(
            ctypes.byref(shape), vocab_size, len(layers), layers
        )

    def keep(self, owner: object) -> None:
        """`owner`, of memory that the program reads, is to live as long as the program."""
        self._kept.append(owner)

    def buffer(self, type: RowType, width: int) -> Buffer:
        return self._buffer(type, width, of_logits=False)

    def rope(self, frequencies: np.ndarray) -> int:
        """A table of angles for `rotate`, to be added before `embed`. frequencies [pairs]: radians
        a position."""
        pointer, count = self._floats(frequencies), len(frequencies)
        return int(self._lib.fc_program_rope(self._program, pointer, count))

    def embed(self, table: Embedding, out: Buffer) -> None:
        """The first operation: rows of the embedding matrix, float32."""
        self._kept.append(table)
        self._lib.fc_program_embed(self._program, ctypes.byref(table), out.number)

    def norm(
        self, x: Buffer, weight: np.ndarray, eps: float, out: Buffer, offset: float = 0.0
    ) -> None:
        """Root-mean-square norm of float32 rows, in the form of `out`."""
        norm = self._norm(x, weight, eps, offset)
        self._lib.fc_program_norm(self._program, ctypes.byref(norm), x.number, out.number)

    def linear(
        self,
        x: Buffer,
        weight: LinearWeight,
        out: Buffer,
        epilogue: Epilogue = "store",
        *,
        bias: np.ndarray | None = None,
        activation: str = "silu",
    ) -> None:
        """A product: stored or added in float32, or gated in the form of `out`."""
        linear = self._linear(weight, epilogue, bias, activation)
        self._lib.fc_program_linear(self._program, ctypes.byref(linear), x.number, out.number)

    def rotate(
        self,
        layer: int,
        qkv: Buffer,
        q: Buffer,
        rope: int,
        rotary_dim: int,
        interleaved: bool,
        norms: HeadNorms | None = None,
    ) -> None:
        """Positions of queries and keys, which are normalised before if there are `norms`; the keys
        go to the layer's pages, as do the values."""
        rotation = structures.RopeWrite(rotary_dim=rotary_dim, interleaved=interleaved)
        if norms is not None:
            rotation.q_norm = self._head_norm(norms.query)
            rotation.k_norm = self._head_norm(norms.key)
            rotation.norm_eps = norms.eps
        self._lib.fc_program_rotate(
            self._program, ctypes.byref(rotation), layer, rope, qkv.number, q.number
        )

    def attend(
        self,
        layer: int,
        q: Buffer,
        out: Buffer,
        scale: float,
        soft_cap: float = 0.0,
        window: int = 0,
    ) -> None:
        attention = structures.Attention(scale=scale, soft_cap=soft_cap, window=window)
        self._lib.fc_program_attend(
            self._program, ctypes.byref(attention), layer, q.number, out.number
        )

    def head(self, x: Buffer, norm: np.ndarray, eps: float, weight: LinearWeight) -> None:
        """The last operation: logits of the tokens that need them."""
        out = self._buffer(weight.row_type, x.width, of_logits=True)
        head = self._linear(weight, "store", None, "silu")
        self._lib.fc_program_head(
            self._program,
            ctypes.byref(self._norm(x, norm, eps, 0.0)),
            ctypes.byref(head),
            x.number,
            out.number,
        )

    def build(self) -> ForwardExecutor:
        return ForwardExecutor(self._pool, self._program, self._vocab_size, self._kept)

    def _buffer(self, type: RowType, width: int, *, of_logits: bool) -> Buffer:
        number = self._lib.fc_program_buffer(self._program, ROW_TYPES[type], width, of_logits)
        return Buffer(int(number), type, width)

    def _norm(self, x: Buffer, weight: np.ndarray, eps: float, offset: float) -> structures.Norm:
        if weight.shape != (x.width,):
            raise ValueError(f"the norm's weight must be [{x.width}], got {list(weight.shape)}")
        return structures.Norm(weight=self._floats(weight), eps=eps, offset=offset, width=x.width)

    def _head_norm(self, weight: np.ndarray) -> int:
        if weight.shape != (self._shape.head_dim,):
            raise ValueError(
                f"the norm of a head must be [{self._shape.head_dim}], got {list(weight.shape)}"
            )
        return self._floats(weight)

    def _linear(
        self, weight: LinearWeight, epilogue: Epilogue, bias: np.ndarray | None, activation: str
    ) -> structures.Linear:
        if bias is not None and bias.shape != (weight.out_features,):
            raise ValueError(f"the bias must be [{weight.out_features}], got {list(bias.shape)}")
        self._kept.append(weight)
        return structures.Linear(
            weight=weight.handle,
            bias=None if bias is None else self._floats(bias),
            epilogue=EPILOGUES[epilogue],
            activation=ACTIVATIONS[activation],
        )

    def _floats(self, values: np.ndarray) -> int:
        """The address of a float32 array that lives as long as the program."""
        kept = np.ascontiguousarray(values, np.float32)
        self._kept.append(kept)
        return int(kept.ctypes.data)


@dataclass(slots=True)
class _Step:
    """A step whose results are valid, with what its draws point to."""

    num_logits: int
    pointees: list[object]
    is_complete: bool = False  # its late draws have been asked for


class ForwardExecutor:
    """Runs the steps of a program in the order of their submission, on a thread of its own.

    Up to three steps may be in flight; results of a step are valid until three later ones are
    submitted. Draws are records of SAMPLE_ROW, scores of SCORE_ROW; `pointees` owns what the
    addresses in draws name, and lives and does not change until the step is over. One thread at a
    time uses it.
    """

    def __init__(self, pool: Pool, program: int, vocab_size: int, kept: list[object]) -> None:
        self.pool = pool
        self._lib = pool.library.lib
        self._program: int | None = program
        self._vocab_size = vocab_size
        self._kept = kept
        self._steps: dict[int, _Step] = {}  # by number
        self._seq = 0
        self._process = os.getpid()
        self._address: int | None = None
        self._address = self._lib.fc_executor_new(program, pool.handle)

    def submit(
        self,
        batch: StepBatch,
        draws: np.ndarray = NO_DRAWS,
        scores: np.ndarray = NO_SCORES,
        pointees: object = None,
    ) -> int:
        """The step's number, counted from 1."""
        copies = np.array([(c.source, c.target, c.num_tokens) for c in batch.copies], COPY)
        arrays = StepArrays(
            num_tokens=len(batch.token_ids),
            num_rows=len(batch.kv_lens),
            num_copies=len(copies),
            num_logits=len(batch.logit_indices),
            num_draws=len(draws),
            num_scores=len(scores),
            token_ids=_address(batch.token_ids),
            positions=_address(batch.positions),
            row_starts=_address(batch.row_starts),
            kv_lens=_address(batch.kv_lens),
            page_table=_address(batch.page_table),
            table_stride=batch.page_table.shape[1],
            copies=copies.ctypes.data,
            logit_indices=_address(batch.logit_indices),
            draws=_records(draws, SAMPLE_ROW),
            scores=_records(scores, SCORE_ROW),
        )
        self._seq = seq = int(self._lib.fc_executor_submit(self._handle, ctypes.byref(arrays)))
        self._steps[seq] = _Step(len(batch.logit_indices), [pointees])
        self._steps.pop(seq - KEPT_STEPS, None)
        return seq

    def draw(self, seq: int, draws: np.ndarray, pointees: object = None) -> None:
        """More draws of step `seq`, once at most, before the next step is submitted. They are made
        when its forward has ended, and before the next one begins."""
        if seq != self._seq or not seq:
            raise ValueError(f"step {seq!r} is not the last one submitted, {self._seq!r}")
        step = self._steps[seq]
        if step.is_complete:
            raise ValueError(f"late draws of step {seq!r} have been asked for already")
        handle, address = self._handle, _records(draws, SAMPLE_ROW)
        step.is_complete = True
        step.pointees.append(pointees)
        self._lib.fc_executor_draw(handle, address, len(draws))

    def wait(self, seq: int) -> None:
        """Until the step and all that was asked of it is there; blocks without the GIL."""
        assert seq in self._steps, f"step {seq} is not among the last that were submitted"
        if self._lib.fc_executor_wait(self._handle, seq):
            raise MemoryError(f"step {seq} found no memory for its activations")

    def is_done(self, seq: int) -> bool:
        """Whether `wait` would return at once."""
        return bool(self._lib.fc_executor_is_done(self._handle, seq))

    # Results of a step that has been waited for.

    def logits(self, seq: int) -> np.ndarray:
        """The logits, float32 [L, vocab_size]: a view."""
        num_logits = self._steps[seq].num_logits
        if not num_logits:
            return np.empty((0, self._vocab_size), np.float32)
        address = self._lib.fc_executor_logits(self._handle, seq)
        flat = (ctypes.c_float * (num_logits * self._vocab_size)).from_address(address)
        return np.frombuffer(memoryview(flat), np.float32).reshape(num_logits, self._vocab_size)

    def drawn(self, seq: int) -> SampleResults:
        """What came of the draws of `submit`."""
        return SampleResults(*self._answers(self._lib.fc_executor_draws, seq, SAMPLE_RESULT))

    def drawn_late(self, seq: int) -> SampleResults:
        """What came of the draws of `draw`."""
        return SampleResults(*self._answers(self._lib.fc_executor_late_draws, seq, SAMPLE_RESULT))

    def scored(self, seq: int) -> ScoreResults:
        return ScoreResults(*self._answers(self._lib.fc_executor_scores, seq, np.dtype(np.float32)))

    def _answers(
        self, function: ctypes._NamedFuncPointer, seq: int, dtype: np.dtype[np.generic]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Results, and ids and log-probabilities of the likeliest beside each, as copies."""
        assert seq in self._steps, f"step {seq} is not among the last that were submitted"
        found = StepAnswers()
        function(self._handle, seq, ctypes.byref(found))
        shape, size = (found.count, found.top_stride), found.count * found.top_stride
        return (
            _copy(found.results, found.count, dtype),
            _copy(found.top_ids, size, np.dtype(np.int32)).reshape(shape),
            _copy(found.top_logprobs, size, np.dtype(np.float32)).reshape(shape),
        )

    def close(self) -> None:
        """Ends the thread after what is submitted, and frees the program. Idempotent."""
        address, self._address = self._address, None
        program, self._program = self._program, None
        if self._process != os.getpid():  # a fork has no such thread
            return
        if address is not None:
            self._lib.fc_executor_free(address)
        if program is not None:
            self._lib.fc_program_free(program)
        self._kept.clear()
        self._steps.clear()

    def __del__(self) -> None:
        self.close()  # what the thread reads is not to go before it

    @property
    def _handle(self) -> int:
        if self._address is None:
            raise ValueError("the executor is closed")
        return self._address


def _copy(address: int | None, count: int, dtype: np.dtype[np.generic]) -> np.ndarray:
    """So many elements at an address, as an array of their own."""
    if not count or address is None:
        return np.empty(count, dtype)
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return np.frombuffer(memoryview(memory), dtype).copy()


def _records(rows: np.ndarray, dtype: np.dtype[np.void]) -> int:
    """The address of contiguous records."""
    assert rows.dtype == dtype, rows.dtype
    assert rows.flags.c_contiguous
    return int(rows.__array_interface__["data"][0])


def _address(array: np.ndarray) -> int:
    assert array.dtype == np.int32, array.dtype
    assert array.flags.c_contiguous
    address: int = array.__array_interface__["data"][0]
    return address


def _bind(library: Library) -> ctypes.CDLL:
    """The library with the types of this module's functions declared."""
    lib = library.lib
    check_sizes(lib, _SIZES)
    pointer, i32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    functions: dict[str, tuple[Sequence[type], type | None]] = {
        "fc_program_new": ([pointer, i32, i32, pointer], pointer),
        "fc_program_free": ([pointer], None),
        "fc_program_buffer": ([pointer, i32, i32, i32], i32),
        "fc_program_rope": ([pointer, pointer, i32], i32),
        "fc_program_embed": ([pointer, pointer, i32], None),
        "fc_program_norm": ([pointer, pointer, i32, i32], None),
        "fc_program_linear": ([pointer, pointer, i32, i32], None),
        "fc_program_rotate": ([pointer, pointer, i32, i32, i32, i32], None),
        "fc_program_attend": ([pointer, pointer, i32, i32, i32], None),
        "fc_program_head": ([pointer, pointer, pointer, i32, i32], None),
        "fc_executor_new": ([pointer, pointer], pointer),
        "fc_executor_free": ([pointer], None),
        "fc_executor_submit": ([pointer, pointer], i64),
        "fc_executor_wait": ([pointer, i64], i32),
        "fc_executor_is_done": ([pointer, i64], i32),
        "fc_executor_logits": ([pointer, i64], pointer),
        "fc_executor_draw": ([pointer, pointer, i32], None),
        "fc_executor_draws": ([pointer, i64, pointer], None),
        "fc_executor_late_draws": ([pointer, i64, pointer], None),
        "fc_executor_scores": ([pointer, i64, pointer], None),
    }
    declare(lib, functions)
    return lib
