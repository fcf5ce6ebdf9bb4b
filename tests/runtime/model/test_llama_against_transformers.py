"""The llama forward: transformers' logits on small random checkpoints, and its own bits under every
way of cutting, batching and sharing."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from furcate.errors import ModelFileError
from furcate.runtime.engine.batch import ForwardBatch, PageCopy
from furcate.runtime.model.decoder import DecoderModel, load_decoder
from furcate.runtime.model.hf_config import HFConfig
from furcate.runtime.model.hf_names import HFNames
from furcate.runtime.model.llama import FAMILY
from furcate.runtime.model.weights import StateDictTensors

if TYPE_CHECKING:
    from furcate.runtime.model.config import DecoderConfig

transformers = pytest.importorskip("transformers")

PAGE = 16
DTYPES = [torch.float32, torch.bfloat16]
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
VARIANTS = {
    "gqa": {"num_key_value_heads": 2},
    "mha": {"num_key_value_heads": 6},
    "mqa-untied": {"num_key_value_heads": 1, "tie_word_embeddings": False},
    "wide-heads": {"num_key_value_heads": 2, "head_dim": 32},
    "linear-rope": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}},
    "llama3-rope": {"rope_parameters": LLAMA3_ROPE},
}


@dataclass(frozen=True)
class Row:
    """The tokens from `first` on of a sequence on `pages`."""

    ids: list[int]
    first: int
    pages: list[int]


def _reference(**changes: object) -> torch.nn.Module:
    settings = {
        "vocab_size": 131,
        "hidden_size": 96,
        "intermediate_size": 160,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
        "attn_implementation": "eager",
    }
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**(settings | changes)))
    for parameter in model.parameters():  # norms of one and tiny weights would hide mistakes
        torch.nn.init.normal_(parameter, 0.0 if parameter.ndim > 1 else 1.0, 0.12)
    return model.eval()


def _config_of(settings: dict[str, object]) -> DecoderConfig:
    return FAMILY.config(HFConfig(settings))


def _model(reference: torch.nn.Module, dtype: torch.dtype = torch.float32) -> DecoderModel:
    config = _config_of(reference.config.to_dict())
    model = load_decoder(config, StateDictTensors(reference.state_dict(), HFNames()), dtype)
    model.allocate(num_pages=256, page_size=PAGE)
    return model


def _batch(
    rows: list[Row], copies: tuple[PageCopy, ...] = (), every_logit: bool = True
) -> ForwardBatch:
    lengths = [len(row.ids) for row in rows]
    starts = np.cumsum([0, *lengths])
    table = np.zeros((len(rows), max(len(row.pages) for row in rows)), np.int32)
    for index, row in enumerate(rows):
        table[index, : len(row.pages)] = row.pages
    positions = [np.arange(row.first, row.first + len(row.ids)) for row in rows]
    return ForwardBatch(
        token_ids=np.concatenate([row.ids for row in rows]).astype(np.int32),
        positions=np.concatenate(positions).astype(np.int32),
        row_starts=starts.astype(np.int32),
        kv_lens=np.array([row.first + len(row.ids) for row in rows], np.int32),
        page_table=table,
        copies=copies,
        logit_indices=np.arange(starts[-1], dtype=np.int32)
        if every_logit
        else (starts[1:] - 1).astype(np.int32),
    )


def _ids(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 131, length).tolist()


def _pages(length: int, first: int = 0) -> list[int]:
    return list(range(first, first + -(-length // PAGE)))


def _whole(model: DecoderModel, ids: list[int], first_page: int = 0) -> torch.Tensor:
    return model.forward(_batch([Row(ids, 0, _pages(len(ids), first_page))]))


@torch.no_grad()
def _expected(reference: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    logits: torch.Tensor = reference(torch.tensor([ids])).logits[0]
    return logits


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_prompt_logits_equal_those_of_transformers(variant: str) -> None:
    reference = _reference(**VARIANTS[variant])
    ids = _ids(300)
    logits = _whole(_model(reference), ids)
    expected = _expected(reference, ids)
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.slow
def test_bfloat16_logits_are_near_those_of_float32() -> None:
    reference = _reference()
    expected = _expected(reference, _ids(300))
    error = _whole(_model(reference, torch.bfloat16), _ids(300)) - expected
    assert error.square().mean().sqrt() <= 0.02 * expected.square().mean().sqrt()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_chunks_and_decode_steps_have_the_bits_of_the_whole_prompt(dtype: torch.dtype) -> None:
    model, ids = _model(_reference(), dtype), _ids(290)
    whole = _whole(model, ids)
    pages = _pages(len(ids), first=100)[::-1]
    bounds = [0, 3, 40, 250, 280, *range(281, 291)]
    parts = [
        model.forward(_batch([Row(ids[first:end], first, pages)]))
        for first, end in itertools.pairwise(bounds)
    ]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_has_the_same_bits_among_thirty_one_others(dtype: torch.dtype) -> None:
    model = _model(_reference(), dtype)
    sequences = [_ids(1 + 7 * n % 60, seed=n) for n in range(32)]
    alone = [_whole(model, ids)[-1] for ids in sequences]
    rows = [Row(ids, 0, _pages(len(ids), 4 * n)) for n, ids in enumerate(sequences)]
    for order in (range(32), range(31, -1, -1)):
        together = model.forward(_batch([rows[n] for n in order], every_logit=False))
        for place, n in enumerate(order):
            assert torch.equal(together[place], alone[n])
    # All but the last token cached, then 32 decode rows in one step.
    decode = [
        Row(ids[-1:], len(ids) - 1, row.pages) for ids, row in zip(sequences, rows, strict=True)
    ]
    assert torch.equal(model.forward(_batch(decode)), torch.stack(alone))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_fork_in_the_middle_of_a_page_has_the_bits_of_a_cold_run(dtype: torch.dtype) -> None:
    model, prompt = _model(_reference(), dtype), _ids(SHARED := 266)
    pages = _pages(SHARED)
    branches = [[*prompt, *_ids(20, seed=n)] for n in range(1, 4)]
    rows, copies = [], []
    for n, ids in enumerate(branches):
        tails = [200 + 2 * n, 201 + 2 * n]
        rows.append(Row(ids[SHARED:], SHARED, [*pages[:-1], *tails]))
        copies.append(PageCopy(pages[-1], tails[0], SHARED % PAGE))
    # The same forward writes the prompt's tail, copies it and attends to the copies.
    cut = 260
    model.forward(_batch([Row(prompt[:cut], 0, pages)]))
    parent = Row(prompt[cut:], cut, pages)
    together = model.forward(_batch([parent, *rows], tuple(copies)))[len(parent.ids) :]
    for result, ids in zip(together.split(20), branches, strict=True):
        assert torch.equal(result, _whole(model, ids, first_page=100)[SHARED:])


def test_only_the_named_tokens_get_logits() -> None:
    model, ids = _model(_reference(num_hidden_layers=1)), _ids(5)
    batch = _batch([Row(ids, 0, [0])], every_logit=False)
    assert model.forward(batch).shape == (1, model.vocab_size)
    assert torch.equal(model.forward(batch)[0], _whole(model, ids)[-1])


def test_facts_that_the_engine_asks_for() -> None:
    model = _model(_reference(num_hidden_layers=1), torch.bfloat16)
    assert (model.vocab_size, model.max_context) == (131, 1024)
    assert model.kv_bytes_per_token == 2 * 1 * 2 * 16 * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 4}, "must be a multiple of the kv heads, got 4"),
        ({"num_key_value_heads": 0}, "kv_heads must be from 1"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
        ({"attention_bias": 1}, "'attention_bias' must be true or false, got 1"),
        ({"rms_norm_eps": math.nan}, "norm_eps must be a positive number, got nan"),
        ({"head_dim": 7}, "dimensions that are rotated must be even, got 7"),
        ({"num_hidden_layers": "3"}, "'num_hidden_layers' must be an integer, got '3'"),
        ({"rope_parameters": {"rope_type": "xpos"}}, "rope_type 'xpos' is not supported"),
        ({"rope_parameters": {"rope_type": "linear"}}, "'factor' must be a number, got None"),
        ({"rope_parameters": "linear"}, "'rope_parameters' must be a table, got 'linear'"),
        ({"partial_rotary_factor": 2.0}, "heads of 16 dimensions cannot have 32 of them rotated"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_config_that_cannot_be_run_is_refused(changes: dict[str, object], message: str) -> None:
    config = {
        "vocab_size": 131,
        "hidden_size": 96,
        "intermediate_size": 160,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5,
    }
    assert _config_of(config).num_layers == 3
    with pytest.raises(ModelFileError, match=message):
        _config_of(config | changes)


def test_missing_misshapen_and_damaged_tensors_are_named() -> None:
    reference = _reference(num_hidden_layers=1)
    config = _config_of(reference.config.to_dict())
    name = "model.layers.0.mlp.down_proj.weight"
    good = reference.state_dict()
    for damage, message in [
        ({k: v for k, v in good.items() if k != name}, f"there is no tensor '{name}'"),
        (good | {name: good[name].t()}, rf"'{name}' has shape \[160, 96\]"),
        (good | {name: good[name] * math.inf}, "'blk.0.ffn_down.weight' holds values"),
    ]:
        with pytest.raises(ModelFileError, match=message):
            load_decoder(config, StateDictTensors(damage, HFNames()), torch.float32)


def test_nothing_to_compute_gives_no_logits() -> None:
    model = _model(_reference(num_hidden_layers=1))
    empty = np.zeros(0, np.int32)
    batch = ForwardBatch(
        empty, empty, np.zeros(1, np.int32), empty, np.zeros((0, 1), np.int32), (), empty
    )
    assert_close(model.forward(batch), torch.zeros(0, model.vocab_size))
