"""The structs of kernels/include as ctypes sees them; the headers say what each field means.

Every mirror's size is compared with the library's when it is bound. Knows no function.
"""

from __future__ import annotations

import ctypes
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ACTIVATIONS",
    "EPILOGUES",
    "KV_TYPES",
    "ROW_TYPES",
    "Attention",
    "Embedding",
    "Epilogue",
    "KVPages",
    "KVShape",
    "KVType",
    "Linear",
    "Norm",
    "PageCopy",
    "RopeWrite",
    "RowType",
    "Rows",
    "StepAnswers",
    "StepArrays",
    "StepRows",
]

RowType = Literal["f32", "bf16", "q8"]
KVType = Literal["bf16", "int8"]
Epilogue = Literal["store", "add", "gated"]

ROW_TYPES: Mapping[RowType, int] = MappingProxyType({"f32": 0, "bf16": 1, "q8": 2})
KV_TYPES: Mapping[KVType, int] = MappingProxyType({"bf16": 0, "int8": 1})
EPILOGUES: Mapping[Epilogue, int] = MappingProxyType({"store": 0, "add": 1, "gated": 2})
ACTIVATIONS: Mapping[str, int] = MappingProxyType({"silu": 0, "gelu_tanh": 1})

i32, i64, f32, pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class Rows(ctypes.Structure):
    _fields_ = (
        ("type", i32),
        ("width", i32),
        ("data", pointer),
        ("scales", pointer),
        ("sums", pointer),
    )


class Norm(ctypes.Structure):
    _fields_ = (
        ("x", pointer),
        ("weight", pointer),
        ("eps", f32),
        ("offset", f32),
        ("width", i32),
        ("rows", pointer),
        ("out", pointer),
    )


class Linear(ctypes.Structure):
    _fields_ = (
        ("weight", pointer),
        ("x", pointer),
        ("bias", pointer),
        ("epilogue", i32),
        ("activation", i32),
        ("out", pointer),
        ("out_stride", i64),
        ("gated_out", pointer),
    )


class Embedding(ctypes.Structure):
    _fields_ = (
        ("type", i32),
        ("width", i32),
        ("vocab_size", i32),
        ("table", pointer),
        ("scale", f32),
    )


class KVShape(ctypes.Structure):
    _fields_ = (
        ("type", i32),
        ("num_heads", i32),
        ("kv_heads", i32),
        ("head_dim", i32),
        ("page_size", i32),
        ("num_pages", i32),
    )


class KVPages(ctypes.Structure):
    _fields_ = (
        ("keys", pointer),
        ("values", pointer),
        ("key_scales", pointer),
        ("value_scales", pointer),
    )


class StepRows(ctypes.Structure):
    _fields_ = (
        ("num_rows", i32),
        ("num_tokens", i32),
        ("row_starts", pointer),
        ("positions", pointer),
        ("kv_lens", pointer),
        ("page_table", pointer),
        ("table_stride", i64),
    )


class PageCopy(ctypes.Structure):
    _fields_ = (("source", i32), ("target", i32), ("num_tokens", i32))


class RopeWrite(ctypes.Structure):
    _fields_ = (
        ("shape", pointer),
        ("pages", pointer),
        ("rows", pointer),
        ("qkv", pointer),
        ("cosine", pointer),
        ("sine", pointer),
        ("rotary_dim", i32),
        ("interleaved", i32),
        ("q_norm", pointer),
        ("k_norm", pointer),
        ("norm_eps", f32),
        ("norm_offset", f32),
        ("q", pointer),
    )


class Attention(ctypes.Structure):
    _fields_ = (
        ("shape", pointer),
        ("pages", pointer),
        ("plan", pointer),
        ("q", pointer),
        ("out", pointer),
        ("scale", f32),
        ("soft_cap", f32),
        ("window", i32),
    )


class StepArrays(ctypes.Structure):
    _fields_ = (
        ("num_tokens", i32),
        ("num_rows", i32),
        ("num_copies", i32),
        ("num_logits", i32),
        ("num_draws", i32),
        ("num_scores", i32),
        ("token_ids", pointer),
        ("positions", pointer),
        ("row_starts", pointer),
        ("kv_lens", pointer),
        ("page_table", pointer),
        ("table_stride", i64),
        ("copies", pointer),
        ("logit_indices", pointer),
        ("draws", pointer),
        ("scores", pointer),
    )


class StepAnswers(ctypes.Structure):
    _fields_ = (
        ("results", pointer),
        ("top_ids", pointer),
        ("top_logprobs", pointer),
        ("count", i64),
        ("top_stride", i64),
    )
