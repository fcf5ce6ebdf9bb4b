"""Native draws and log-probabilities from numpy arrays.

Rows are records of SAMPLE_ROW and SCORE_ROW; the caller keeps alive what their addresses name.
Knows no streams and no sampling parameters but those of a record.
"""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from furcate.kernels.library import declare

if TYPE_CHECKING:
    from furcate.kernels.library import Library, Pool

__all__ = [
    "PACK_SAMPLE_ROW",
    "SAMPLE_RESULT",
    "SAMPLE_ROW",
    "SCORE_ROW",
    "SampleKernel",
    "SampleResults",
    "SampleStatus",
    "ScoreResults",
]


class SampleStatus:
    """Of a result's `status`."""

    DRAWN = 0
    NOTHING_ALLOWED = 1
    BROKEN_LOGITS = 2


SAMPLE_ROW = np.dtype(
    [
        ("logit", np.int32),
        ("top_k", np.int32),
        ("temperature", np.float64),
        ("top_p", np.float64),
        ("min_p", np.float64),
        ("frequency_penalty", np.float64),
        ("presence_penalty", np.float64),
        ("repetition_penalty", np.float32),
        ("num_top", np.int32),
        ("seed", np.uint64),
        ("index", np.uint64),
        ("mask", np.uintp),
        ("output_ids", np.uintp),
        ("context_ids", np.uintp),
        ("banned_ids", np.uintp),
        ("bias_ids", np.uintp),
        ("bias_values", np.uintp),
        ("num_output", np.int32),
        ("num_context", np.int32),
        ("num_banned", np.int32),
        ("num_bias", np.int32),
    ],
    align=True,
)
# The same record for `struct`: one call fills it, many times as fast as assigning its fields.
PACK_SAMPLE_ROW = struct.Struct("@iidddddfiQQPPPPPPiiii")
SCORE_ROW = np.dtype([("logit", np.int32), ("token_id", np.int32), ("num_top", np.int32)])
SAMPLE_RESULT = np.dtype(
    [("token_id", np.int32), ("status", np.int32), ("logprob", np.float32)], align=True
)

POINTER, I32 = ctypes.c_void_p, ctypes.c_int32


class SampleResults(NamedTuple):
    """Of n rows. What is past a row's own num_top is not written."""

    results: np.ndarray  # SAMPLE_RESULT [n]
    top_ids: np.ndarray  # int32 [n, most num_top]; -1 where there are fewer
    top_logprobs: np.ndarray  # float32, the same


class ScoreResults(NamedTuple):
    logprobs: np.ndarray  # float32 [n]
    top_ids: np.ndarray  # int32 [n, most num_top]; -1 where there are fewer
    top_logprobs: np.ndarray  # float32, the same


class SampleKernel:
    """The operation of one library, on the threads of one pool."""

    def __init__(self, library: Library, pool: Pool) -> None:
        lib = library.lib
        sizes = {
            "SampleRow": SAMPLE_ROW.itemsize,
            "ScoreRow": SCORE_ROW.itemsize,
            "SampleResult": SAMPLE_RESULT.itemsize,
        }
        for name, here in sizes.items():
            function = getattr(lib, f"fc_sizeof_{name}")
            function.argtypes, function.restype = [], ctypes.c_size_t
            assert function() == here, f"{name} has {function()} bytes in C++ and {here} in Python"
        assert PACK_SAMPLE_ROW.size == SAMPLE_ROW.itemsize
        common = [POINTER, POINTER, I32, POINTER, I32, POINTER, POINTER, POINTER, I32]
        declare(lib, dict.fromkeys(("fc_sample", "fc_score"), (common, None)))
        self._lib, self._pool = lib, pool

    def sample(self, logits: np.ndarray, rows: np.ndarray) -> SampleResults:
        """A token for each record of SAMPLE_ROW, from float32 [L, vocab_size]."""
        stride = max(int(rows["num_top"].max(initial=0)), 0)
        out = SampleResults(
            np.empty(len(rows), SAMPLE_RESULT),
            np.empty((len(rows), stride), np.int32),
            np.empty((len(rows), stride), np.float32),
        )
        self._call(self._lib.fc_sample, logits, rows, out)
        return out

    def score(self, logits: np.ndarray, rows: np.ndarray) -> ScoreResults:
        """A log-probability for each record of SCORE_ROW, from float32 [L, vocab_size]."""
        stride = max(int(rows["num_top"].max(initial=0)), 0)
        out = ScoreResults(
            np.empty(len(rows), np.float32),
            np.empty((len(rows), stride), np.int32),
            np.empty((len(rows), stride), np.float32),
        )
        self._call(self._lib.fc_score, logits, rows, out)
        return out

    def _call(
        self,
        function: ctypes._NamedFuncPointer,
        logits: np.ndarray,
        rows: np.ndarray,
        out: SampleResults | ScoreResults,
    ) -> None:
        if not len(rows):
            return
        assert logits.dtype == np.float32
        assert logits.flags.c_contiguous
        function(
            self._pool.handle,
            logits.ctypes.data,
            logits.shape[1],
            rows.ctypes.data,
            len(rows),
            out[0].ctypes.data,
            out.top_ids.ctypes.data,
            out.top_logprobs.ctypes.data,
            out.top_ids.shape[1],
        )
