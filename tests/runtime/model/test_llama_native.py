"""A native forward computes what its weights say, in every stored type and in every number."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.fakes.checkpoints import LlamaShape, expanded, random_llama, write_llama
from tests.fakes.llama_forward import LlamaForward
from tests.fakes.native_models import Row, logits_of, native_model, random_ids, with_pairs
from tests.kernels.native import AVAILABLE

from furcate.errors import UsageError
from furcate.kernels.linear.blocks import BLOCK_LAYOUTS
from furcate.runtime.model.config import AttentionConfig
from furcate.runtime.model.decoder import load_decoder
from furcate.runtime.model.decoder_native import why_not_native
from furcate.runtime.model.gguf import read_header
from furcate.runtime.model.llama import config_from_gguf
from furcate.runtime.model.weights import GGUFTensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.fakes.checkpoints import StoredTensor

    from furcate.kernels.structures import KVType
    from furcate.runtime.model.config import DecoderConfig
    from furcate.runtime.model.native import NativeModel
    from furcate.runtime.model.native_weights import Matmul

TIER = AVAILABLE[0]  # others have its bits
NUM_TOKENS = 70
NUM_SHORT, SHORT = 5, 5  # sequences, and their tokens
SMALL = LlamaShape(hidden_size=96, ffn_size=160, num_heads=6, kv_heads=2, head_dim=16)


@dataclass(frozen=True, slots=True)
class Case:
    """A model of its own shape."""

    kind: str
    shape: LlamaShape = field(default_factory=LlamaShape)
    others: Mapping[str, str] = field(default_factory=dict)
    tied: bool = True
    interleaved: bool = True
    num_tokens: int = NUM_TOKENS


SHAPES = {
    "groups of 3, heads of 16": Case("Q8_0", SMALL),
    "groups of 1, heads of 32, untied": Case(
        "Q4_0", LlamaShape(hidden_size=128, ffn_size=96, kv_heads=4, head_dim=32), tied=False
    ),
    "halves turn": Case("Q4_1", interleaved=False),
    "heads of 48, wider than hidden": Case(
        "Q5_0", LlamaShape(hidden_size=64, ffn_size=64, head_dim=48), interleaved=False
    ),
    "stretched positions": Case(
        "Q8_0",
        replace(SMALL, rope_base=500.0, rope_divisors=(1.0, 1.0, 1.5, 2.0, 4.0, 8.0, 8.0, 8.0)),
    ),
    "one layer, one head": Case(
        "Q8_0",
        LlamaShape(
            vocab_size=33,
            hidden_size=32,
            ffn_size=32,
            num_layers=1,
            num_heads=1,
            kv_heads=1,
            head_dim=32,
        ),
    ),
    "beyond a split": Case("Q8_0", SMALL, num_tokens=300),
}
MIXED = {
    "floats beside blocks": Case("Q4_0", SMALL, {"attn_k": "Q8_0", "attn_v": "F32"}),
    "blocks of all sizes": Case(
        "Q4_K",
        others={"token_embd": "Q6_K", "attn_v": "Q6_K", "ffn_down": "Q5_0", "attn_q": "Q8_0"},
    ),
    "halves in the head": Case("Q4_1", SMALL, {"output.": "F16", "ffn_up": "BF16"}, tied=False),
}
FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class Written:
    """A case's file and what is in it."""

    path: Path
    case: Case
    tensors: Mapping[str, StoredTensor]
    config: DecoderConfig
    ids: np.ndarray

    def native(
        self, matmul: Matmul = "auto", kv_type: KVType = "bf16", tier: str = TIER
    ) -> np.ndarray:
        with self._model(matmul, kv_type, tier) as model:
            return logits_of(model, [Row(self.ids, 0, range(100))])[0]

    def specified(self, matmul: Matmul = "auto", kv_type: KVType = "bf16") -> np.ndarray:
        return self._specification(matmul, kv_type).logits(self.ids)

    def distances_of_short_sequences(self, matmul: Matmul, kv_type: KVType = "bf16") -> np.ndarray:
        """Of each token's logits from the specification's."""
        sequences = np.split(self.ids[: SHORT * NUM_SHORT], NUM_SHORT)
        rows = [Row(ids, 0, [page]) for page, ids in enumerate(sequences)]
        with self._model(matmul, kv_type, TIER) as model:
            found = logits_of(model, rows)
        forward = self._specification(matmul, kv_type)
        return np.array(
            [
                distance(a, b)
                for logits, ids in zip(found, sequences, strict=True)
                for a, b in zip(logits, forward.logits(ids), strict=True)
            ]
        )

    def _specification(self, matmul: Matmul, kv_type: KVType) -> LlamaForward:
        floats = "f32" if matmul == "fp32" or (matmul == "auto" and TIER != "avx512") else "bf16"
        reads_blocks = matmul in ("auto", "int8")
        return LlamaForward(self.config, self.tensors, reads_blocks, floats, kv_type)

    def _model(
        self, matmul: Matmul, kv_type: KVType, tier: str
    ) -> AbstractContextManager[NativeModel]:
        turns_pairs = self.case.interleaved
        return native_model(
            self.path, tier, matmul=matmul, kv_type=kv_type, interleaved=turns_pairs
        )

    def torch(self, dtype: torch.dtype) -> np.ndarray:
        model = load_decoder(self.config, GGUFTensors(read_header(self.path)), dtype)
        model.allocate(100, 16)
        return logits_of(model, [Row(self.ids, 0, range(100))])[0]


def written(folder: Path, case: Case) -> Written:
    tensors = random_llama(case.kind, case.others, case.shape, case.tied)
    path = write_llama(folder / "model.gguf", tensors, case.shape)
    config = with_pairs(config_from_gguf(read_header(path)), case.interleaved)
    ids = random_ids(case.num_tokens, case.shape.vocab_size)
    return Written(path, case, tensors, config, ids)


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The root of the mean square of the difference, in standard deviations of the expected."""
    assert found.shape == expected.shape
    assert np.isfinite(found).all()
    return float(np.sqrt(((found - expected) ** 2).mean()) / expected.std())


def agreement(found: np.ndarray, expected: np.ndarray) -> float:
    return float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())


KINDS = {kind: Case(kind, num_tokens=30) for kind in (*FLOATS, *BLOCK_LAYOUTS)}
CASES = SHAPES | MIXED | KINDS
IN_FLOATS = [*SHAPES, *MIXED, *FLOATS, "Q5_1", "Q4_K"]  # expanded, the other types are alike
WHOLE = {"auto": 2e-2, "fp32": 2e-3, "bf16": 6e-3}
NOISE = 1e-5  # of float32


@pytest.mark.parametrize(
    ("name", "matmul"),
    [
        *((name, "auto") for name in CASES),
        *((name, matmul) for matmul in ("fp32", "bf16") for name in IN_FLOATS),
    ],
)
def test_a_forward_differs_from_its_specification_by_the_noise_of_floats(
    tmp_path: Path, name: str, matmul: Matmul
) -> None:
    model = written(tmp_path, CASES[name])
    distances = model.distances_of_short_sequences(matmul)
    # Noise can move a value to the next code or bfloat16, and from there on it is another forward.
    assert np.median(distances) < NOISE
    assert distance(model.native(matmul), model.specified(matmul)) < WHOLE[matmul]


@pytest.mark.parametrize("name", [*SHAPES, *MIXED])
def test_with_int8_keys_and_values_too(tmp_path: Path, name: str) -> None:
    model = written(tmp_path, CASES[name])
    assert np.median(model.distances_of_short_sequences("auto", "int8")) < NOISE
    assert distance(model.native("auto", "int8"), model.specified("auto", "int8")) < WHOLE["auto"]


@pytest.mark.parametrize("name", ["Q8_0", "Q4_K", "BF16", "beyond a split"])
def test_int8_keys_and_values_are_near_bfloat16(tmp_path: Path, name: str) -> None:
    model = written(tmp_path, CASES[name])
    near, exact = model.native("auto", "int8"), model.native("auto")
    assert distance(near, exact) < 0.05
    assert agreement(near, exact) > 0.85


@pytest.mark.parametrize("name", IN_FLOATS)
def test_a_native_forward_is_near_the_one_in_torch(tmp_path: Path, name: str) -> None:
    model = written(tmp_path, CASES[name])
    exact = model.torch(torch.float32)
    assert distance(model.native("fp32"), exact) < 0.015  # keys and values are bfloat16
    assert distance(model.native("bf16"), model.torch(torch.bfloat16)) < 0.03
    stored = model.native("auto")
    assert distance(stored, exact) < 0.04
    assert agreement(stored, exact) > 0.85  # of thirty rows: near ties go either way


@pytest.mark.parametrize("kind", ["Q4_1", "Q6_K"])
def test_a_file_of_blocks_and_its_floats_give_the_same_bits_in_float_products(
    tmp_path: Path, kind: str
) -> None:
    model = written(tmp_path, Case(kind))
    write_llama(tmp_path / "expanded.gguf", expanded(model.tensors))
    floats = replace(model, path=tmp_path / "expanded.gguf")
    for matmul in ("fp32", "bf16"):
        np.testing.assert_array_equal(model.native(matmul), floats.native(matmul))


def test_int8_products_need_weights_in_blocks(tmp_path: Path) -> None:
    model = written(tmp_path, MIXED["floats beside blocks"])
    with pytest.raises(UsageError, match=r"--matmul int8 needs .* 'blk.0.attn_v.weight' is not"):
        model.native("int8")
    blocks = written(tmp_path, SHAPES["halves turn"])
    np.testing.assert_array_equal(blocks.native("int8"), blocks.native("auto"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"head_dim": 24}, "heads of 24 dimensions"),
        ({"head_dim": 272}, "heads of 272 dimensions"),
        ({"hidden_size": 72}, "a hidden size of 72"),
        ({"qk_norm": "token", "sinks": True}, "norms across heads, attention sinks"),
        ({"qk_norm": "head", "qkv_bias": True, "output_bias": True}, None),
        ({}, None),
    ],
)
def test_a_shape_that_kernels_do_not_read_is_told(
    tmp_path: Path, changes: dict[str, object], reason: str | None
) -> None:
    config = written(tmp_path, Case("F32", SMALL)).config
    assert isinstance(config.attention, AttentionConfig)
    hidden_size = changes.pop("hidden_size", config.hidden_size)
    attention = replace(config.attention, **changes)
    layers = config.layers
    if "head_dim" in changes:
        rope = layers[0].rope
        assert rope is not None
        layers = (replace(layers[0], rope=replace(rope, size=attention.head_dim)),) * len(layers)
    found = why_not_native(
        replace(config, hidden_size=hidden_size, attention=attention, layers=layers)
    )
    assert found is None if reason is None else found is not None and reason in found


def test_the_cost_of_a_token_is_that_of_its_pages(tmp_path: Path) -> None:
    model = written(tmp_path, Case("F32", SMALL))
    for kv_type, num_bytes in (("bf16", 2 * 16), ("int8", 16 + 4)):
        with native_model(model.path, TIER, kv_type=kv_type) as native:
            assert native.kv_bytes_per_token == 2 * 2 * 2 * num_bytes  # layers, keys and values
            assert (native.vocab_size, native.max_context) == (67, 256)
