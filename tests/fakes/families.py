"""A tiny random checkpoint of every model family, made by transformers' own classes.

Sizes are the least that show a family's parts: two splits of keys, windows that hide pages, groups
of heads, more experts than are used. Knows nothing of this runtime.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import transformers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["FAMILIES", "VOCAB_SIZE", "TinyFamily"]

VOCAB_SIZE = 131
SMALL: Mapping[str, object] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
}
WINDOW = {"sliding_window": 40}
LOCAL_AND_WHOLE = {"layer_types": ["sliding_attention", "full_attention"]}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
YARN_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 256,
}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0 + 0.1 * n for n in range(6)],
    "long_factor": [2.0 + 0.5 * n for n in range(6)],
}
LATENT = {
    "kv_lora_rank": 24,
    "q_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "num_key_value_heads": 4,
}
SHARED_EXPERTS = {
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 32,
    "n_shared_experts": 2,
    "n_group": 4,
    "topk_group": 2,
    "first_k_dense_replace": 1,
    "routed_scaling_factor": 1.5,
}


@dataclass(frozen=True)
class TinyFamily:
    """Transformers' class names begin with `name`; `settings` go over SMALL."""

    name: str
    settings: Mapping[str, object] = field(default_factory=dict)
    config: str = ""  # the class's name, where it is not the model's with Config

    def model(self) -> torch.nn.Module:
        """With weights that leave no part without effect: norms are not one, biases not zero."""
        config_class = getattr(transformers, self.config or f"{self.name}Config")
        config = config_class(**{**SMALL, **self.settings}, attn_implementation="eager")
        torch.manual_seed(0)
        model = getattr(transformers, f"{self.name}ForCausalLM")(config)
        for name, tensor in model.named_parameters():
            is_norm = "norm" in name and not self.name.startswith("Gemma")
            spread = 0.5 if "sinks" in name else 0.12
            torch.nn.init.normal_(tensor, 1.0 if is_norm else 0.0, spread)
        for name, tensor in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                torch.nn.init.normal_(tensor, 0.0, 0.1)
        return model.eval()

    def save(self, folder: Path, model: torch.nn.Module, shard_size: str = "5GB") -> Path:
        model.save_pretrained(folder, max_shard_size=shard_size)  # type: ignore[operator]
        return folder


FAMILIES: Mapping[str, TinyFamily] = {
    "llama": TinyFamily("Llama", {"num_key_value_heads": 1, "head_dim": 32}),
    "llama, llama3 rope, biases": TinyFamily(
        "Llama", {"rope_parameters": LLAMA3_ROPE, "attention_bias": True, "mlp_bias": True}
    ),
    "llama, dynamic rope": TinyFamily(
        "Llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}
    ),
    "llama, yarn rope": TinyFamily("Llama", {"rope_parameters": YARN_ROPE}),
    "mistral": TinyFamily("Mistral", WINDOW),
    "mistral, whole": TinyFamily("Mistral", {"sliding_window": None}),
    "qwen2": TinyFamily("Qwen2", {"rope_parameters": YARN_ROPE}),
    "qwen2, window": TinyFamily(
        "Qwen2", {**WINDOW, "use_sliding_window": True, "max_window_layers": 1}
    ),
    "qwen3": TinyFamily("Qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "gemma2": TinyFamily("Gemma2", {**WINDOW, "head_dim": 32, "query_pre_attn_scalar": 30}),
    "gemma3": TinyFamily(
        "Gemma3",
        {**WINDOW, **LOCAL_AND_WHOLE, "head_dim": 32, "query_pre_attn_scalar": 20},
        config="Gemma3TextConfig",
    ),
    "phi3": TinyFamily("Phi3", WINDOW),
    "phi4, partial long rope": TinyFamily(
        "Phi3",
        {
            "rope_parameters": {**LONG_ROPE, "partial_rotary_factor": 0.75},
            "original_max_position_embeddings": 512,
        },
    ),
    "smollm3": TinyFamily("SmolLM3", {"num_hidden_layers": 4}),
    "olmo2": TinyFamily("Olmo2"),
    "granite": TinyFamily(
        "Granite",
        {
            "embedding_multiplier": 6.0,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.4,
            "logits_scaling": 3.0,
        },
    ),
    "mixtral": TinyFamily("Mixtral", {"num_local_experts": 4}),
    "qwen3 moe": TinyFamily(
        "Qwen3Moe",
        {
            "head_dim": 32,
            "num_experts": 8,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 32,
            "norm_topk_prob": True,
            "mlp_only_layers": [0],
        },
    ),
    "gpt-oss": TinyFamily(
        "GptOss",
        {
            **WINDOW,
            "head_dim": 32,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "rope_parameters": {**YARN_ROPE, "truncate": False},
        },
    ),
    "deepseek v2": TinyFamily(
        "DeepseekV2", {**LATENT, **SHARED_EXPERTS, "topk_method": "group_limited_greedy"}
    ),
    "deepseek v2, lite": TinyFamily(
        "DeepseekV2", {**LATENT, **SHARED_EXPERTS, "q_lora_rank": None}
    ),
    "deepseek v3": TinyFamily(
        "DeepseekV3",
        {
            **LATENT,
            **SHARED_EXPERTS,
            "rope_parameters": {**YARN_ROPE, "mscale": 1.0, "mscale_all_dim": 0.5},
        },
    ),
}
