"""Settings as well-known checkpoints spell them: read alike from their own config.json, which may
leave out what their class has by default, and from what transformers makes of it."""

from __future__ import annotations

import math
from contextlib import suppress
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from furcate.errors import ModelFileError
from furcate.runtime.model.config import AttentionConfig, DecoderConfig
from furcate.runtime.model.hf_config import HFConfig
from furcate.runtime.model.registry import FAMILIES

transformers = pytest.importorskip("transformers")

LLAMA_32: dict[str, object] = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "tie_word_embeddings": True,
}
QWEN_25: dict[str, object] = {
    "model_type": "qwen2",
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "use_sliding_window": False,
}
GEMMA_2: dict[str, object] = {
    "model_type": "gemma2",
    "vocab_size": 256000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 8192,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "query_pre_attn_scalar": 256,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
}
GEMMA_3_1B: dict[str, object] = {
    "model_type": "gemma3_text",
    "vocab_size": 262144,
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "num_hidden_layers": 26,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 32768,
    "query_pre_attn_scalar": 256,
    "rope_local_base_freq": 10000,
    "rope_theta": 1000000,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
}
PHI_4_MINI: dict[str, object] = {
    "model_type": "phi3",
    "vocab_size": 200064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "partial_rotary_factor": 0.75,
    "rms_norm_eps": 1e-5,
    "rope_scaling": {
        "short_factor": [1.0] * 48,
        "long_factor": [1.0 + n for n in range(48)],
        "type": "longrope",
    },
    "sliding_window": 262144,
    "tie_word_embeddings": True,
}
SMOLLM3: dict[str, object] = {
    "model_type": "smollm3",
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 65536,
    "no_rope_layer_interval": 4,
    "rope_theta": 5000000.0,
}
GPT_OSS: dict[str, object] = {
    "model_type": "gpt_oss",
    "vocab_size": 201088,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "head_dim": 64,
    "attention_bias": True,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 150000,
    "rope_scaling": {
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 32.0,
        "original_max_position_embeddings": 4096,
        "rope_type": "yarn",
        "truncate": False,
    },
    "sliding_window": 128,
}
DEEPSEEK_V3: dict[str, object] = {
    "model_type": "deepseek_v3",
    "vocab_size": 129280,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "n_shared_experts": 1,
    "n_routed_experts": 256,
    "routed_scaling_factor": 2.5,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "n_group": 8,
    "topk_group": 4,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "norm_topk_prob": True,
    "max_position_embeddings": 163840,
    "rope_theta": 10000,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
}
KNOWN = {
    "Llama 3.2 1B": LLAMA_32,
    "Qwen2.5 7B": QWEN_25,
    "Gemma 2 2B": GEMMA_2,
    "Gemma 3 1B": GEMMA_3_1B,
    "Phi-4 mini": PHI_4_MINI,
    "SmolLM3 3B": SMOLLM3,
    "gpt-oss 20B": GPT_OSS,
    "DeepSeek V3": DEEPSEEK_V3,
}


def _read(settings: dict[str, object]) -> DecoderConfig:
    return FAMILIES[str(settings["model_type"])].read(HFConfig(settings))


@pytest.mark.parametrize("name", KNOWN)
def test_a_file_is_read_as_what_transformers_makes_of_it(name: str) -> None:
    settings = deepcopy(KNOWN[name])  # transformers writes into it
    del settings["model_type"]
    model_type = str(KNOWN[name]["model_type"])
    normal = transformers.AutoConfig.for_model(model_type, **settings).to_dict()
    assert _read(KNOWN[name]) == _read(normal)


def test_local_layers_are_where_they_should_be() -> None:
    windows = [layer.window for layer in _read(GEMMA_3_1B).layers[:7]]
    assert windows == [512, 512, 512, 512, 512, None, 512]
    assert [layer.window for layer in _read(GEMMA_2).layers[:3]] == [4096, None, 4096]
    assert [layer.window for layer in _read(GPT_OSS).layers[:3]] == [128, None, 128]
    assert {layer.window for layer in _read(QWEN_25).layers} == {None}


def test_local_and_whole_layers_have_rope_bases_of_their_own() -> None:
    layers = _read(GEMMA_3_1B).layers
    assert [layers[n].rope.base for n in (0, 5) if layers[n].rope] == [10_000.0, 1_000_000.0]


def test_the_text_model_of_one_that_sees_pictures_has_the_defaults_of_its_class() -> None:
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    config = _read({"model_type": "gemma3", "text_config": text})
    assert isinstance(config.attention, AttentionConfig)
    assert (config.vocab_size, config.attention.head_dim, config.tied_embeddings) == (
        262_208,
        256,
        True,
    )
    ropes = {layer.window: layer.rope for layer in config.layers}
    assert ropes[None] is not None
    assert ropes[None].divisors == (8.0,) * 128
    assert ropes[1024] is not None
    assert ropes[1024].divisors == ()


def test_every_fourth_layer_of_smollm3_knows_no_positions() -> None:
    is_rotated = [layer.rope is not None for layer in _read(SMOLLM3).layers]
    assert is_rotated == [True, True, True, False] * 9


def test_long_rope_is_served_up_to_the_length_where_it_changes() -> None:
    config = _read(PHI_4_MINI)
    rope = config.layers[0].rope
    assert rope is not None
    assert (config.max_context, rope.size, rope.divisors) == (4096, 96, (1.0,) * 48)
    assert rope.scale == pytest.approx(1.190238)


ODD_VALUES = (0, -1, 1, 2**70, 0.0, -0.5, 1e308, math.inf, math.nan, None, "x", [], [[]], {}, True)


@settings_of_hypothesis(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_setting_may_be_odd_and_is_then_named_or_read(data: st.DataObject) -> None:
    settings = deepcopy(KNOWN[data.draw(st.sampled_from(sorted(KNOWN)))])
    tables = [settings, settings.get("rope_scaling")]
    for _ in range(data.draw(st.integers(1, 3))):
        table = data.draw(st.sampled_from([table for table in tables if isinstance(table, dict)]))
        keys = [*sorted(set(table) - {"model_type"}), "layer_types", "partial_rotary_factor"]
        table[data.draw(st.sampled_from(keys))] = data.draw(st.sampled_from(ODD_VALUES))
    with suppress(ModelFileError):
        assert isinstance(_read(settings), DecoderConfig)


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        (GEMMA_2, {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        (GEMMA_3_1B, {"layer_types": ["chunked"] * 26}, "layer type 'chunked' is not supported"),
        (GEMMA_3_1B, {"layer_types": ["full_attention"]}, "'layer_types' must be a list of 26"),
        (PHI_4_MINI, {"partial_rotary_factor": 1.0}, "there must be 64 rope divisors, got 48"),
        (GPT_OSS, {"swiglu_limit": 5.0}, "swiglu_limit 5.0 is not supported; it must be 7.0"),
        (GPT_OSS, {"num_experts_per_tok": 33}, "the experts of a token must be from 1 to 32"),
        (DEEPSEEK_V3, {"n_group": 7}, "256 experts in 7 groups do not give 8 of 4 groups"),
        (DEEPSEEK_V3, {"v_head_dim": 256}, "values of 256 dimensions beside keys of 192"),
        (DEEPSEEK_V3, {"mlp_bias": True}, "mlp_bias is True, which is not supported"),
        (LLAMA_32, {"sliding_window": -1, "model_type": "mistral"}, "window must be from 1"),
    ],
)
def test_what_a_family_cannot_run_is_named(
    settings: dict[str, object], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelFileError, match=message):
        _read(settings | changes)
