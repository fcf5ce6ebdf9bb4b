"""The embedded model in this runtime against transformers on the same file."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from furcate.runtime.engine.batch import ForwardBatch
from furcate.runtime.model import catalog
from furcate.runtime.model.load import load_model

pytestmark = [pytest.mark.slow, pytest.mark.smollm2, pytest.mark.timeout(300)]

PAGE = 16
NEW_TOKENS = 24
# Ids, not text: "The capital of France is", a chat turn's beginning, digits, and noise.
PROMPTS = [
    [504, 3575, 282, 4649, 314],
    [1, 4093, 198, 19556, 28, 638, 359, 346, 47, 2, 198, 1, 520, 9531, 198],
    list(range(32, 52)),
    np.random.default_rng(0).integers(0, 49_152, 300).tolist(),
]


def _batch(rows: list[tuple[list[int], int]]) -> ForwardBatch:
    """Row n has pages 64 n .. 64 n + 63; its tokens begin at the given position."""
    lengths = [len(ids) for ids, _ in rows]
    starts = np.cumsum([0, *lengths]).astype(np.int32)
    return ForwardBatch(
        token_ids=np.concatenate([ids for ids, _ in rows]).astype(np.int32),
        positions=np.concatenate([np.arange(f, f + len(i)) for i, f in rows]).astype(np.int32),
        row_starts=starts,
        kv_lens=np.array([first + len(ids) for ids, first in rows], np.int32),
        page_table=np.arange(64 * len(rows), dtype=np.int32).reshape(len(rows), 64),
        copies=(),
        logit_indices=starts[1:] - 1,
    )


def _rows_by_halves(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Undoes the permutation of query and key rows that GGUF files have for interleaved rope."""
    heads = weight.view(num_heads, -1, 2, weight.shape[1])  # [heads, pairs, 2, hidden]
    return heads.transpose(1, 2).reshape(weight.shape)


def _transformers_model() -> torch.nn.Module:
    """transformers' model in float32 on the file's weights, read by the gguf package."""
    gguf = pytest.importorskip("gguf")
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_theta=100_000.0,
        tie_word_embeddings=True,
    )
    reader = gguf.GGUFReader(catalog.ensure("smollm2"))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    model = transformers.LlamaForCausalLM(config)
    stored = {
        tensor.name: torch.tensor(gguf.dequantize(tensor.data, tensor.tensor_type))
        for tensor in reader.tensors
    }
    state = {}
    for name in model.state_dict():
        stem = name.replace("lm_head", "model.embed_tokens").removesuffix(".weight")
        weight = stored[f"{names.get_name(stem)}.weight"]
        if "q_proj" in name or "k_proj" in name:
            weight = _rows_by_halves(weight, 9 if "q_proj" in name else 3)
        state[name] = weight.float()
    model.load_state_dict(state)
    return model.eval()


@pytest.fixture(scope="module")
def expected() -> tuple[list[list[int]], torch.Tensor]:
    """transformers' greedy ids of every prompt, and the logits after the last prompt."""
    model = _transformers_model()
    ids = []
    with torch.inference_mode():
        for prompt in PROMPTS:
            tokens = torch.tensor([prompt])
            output = model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
                do_sample=False,
                pad_token_id=0,
                eos_token_id=None,
            )
            ids.append(output[0, len(prompt) :].tolist())
        logits = model(torch.tensor([PROMPTS[-1]])).logits[0, -1]
    del model
    gc.collect()
    return ids, logits


def test_greedy_ids_of_a_batch_equal_those_of_transformers(
    expected: tuple[list[list[int]], torch.Tensor],
) -> None:
    model = load_model(catalog.ensure("smollm2"), "float32")
    model.allocate(64 * len(PROMPTS), PAGE)
    rows, outputs = [(prompt, 0) for prompt in PROMPTS], [[] for _ in PROMPTS]
    for _ in range(NEW_TOKENS):
        logits = model.forward(_batch(rows))
        for n, token in enumerate(logits.argmax(-1).tolist()):
            outputs[n].append(token)
            rows[n] = ([token], len(PROMPTS[n]) + len(outputs[n]) - 1)
    assert outputs == expected[0]


def test_bfloat16_logits_are_near_those_of_transformers_in_float32(
    expected: tuple[list[list[int]], torch.Tensor],
) -> None:
    model = load_model(catalog.ensure("smollm2"), "bfloat16")
    model.allocate(64, PAGE)
    (logits,) = model.forward(_batch([(PROMPTS[-1], 0)]))
    error = (logits - expected[1]).square().mean().sqrt()
    assert error <= 0.03 * expected[1].std()
    assert int(expected[1].argmax()) in logits.topk(3).indices.tolist()
