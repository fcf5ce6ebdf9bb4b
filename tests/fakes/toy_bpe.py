"""A byte-level BPE tokenizer of a few merges, in which "hello" is one token and "hel" is two."""

from __future__ import annotations

from dataclasses import dataclass

from furcate.runtime.tokenize.merges import BYTE_OF_CHARACTER
from furcate.runtime.tokenize.tokenizer import Tokenizer

__all__ = ["toy_bpe"]

_CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_BYTES = sorted(chr(code) for code in BYTE_OF_CHARACTER)
_MERGES = ["h e", "l l", "he ll", "hell o", "Ġ hello"]
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass
class _Header:
    metadata: dict[str, object]


def toy_bpe() -> Tokenizer:
    tokens = [*_CONTROL, *_BYTES, *(merge.replace(" ", "") for merge in _MERGES)]
    return Tokenizer.from_header(
        _Header(
            {
                "general.name": "toy",
                "tokenizer.ggml.model": "gpt2",
                "tokenizer.ggml.pre": "smollm",
                "tokenizer.ggml.tokens": tokens,
                "tokenizer.ggml.token_type": [3] * len(_CONTROL)
                + [1] * (len(tokens) - len(_CONTROL)),
                "tokenizer.ggml.merges": _MERGES,
                "tokenizer.ggml.bos_token_id": 1,
                "tokenizer.ggml.eos_token_id": 0,
                "tokenizer.ggml.add_bos_token": False,
                "tokenizer.chat_template": _TEMPLATE,
            }
        )
    )
