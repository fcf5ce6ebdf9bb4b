"""What a folder of transformers has beside its weights: a tokenizer of single letters.

Knows nothing of this runtime.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import tokenizers

from .families import VOCAB_SIZE

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["add_tokenizer", "configure"]


def add_tokenizer(folder: Path, vocab_size: int = VOCAB_SIZE) -> None:
    """A token for every character of a small alphabet, and a control token that ends."""
    letters = "abcdefghijklmnopqrstuvwxyz .,!?0123456789"
    vocabulary = {"<s>": 1, "</s>": 2} | {letter: 10 + n for n, letter in enumerate(letters)}
    filler = {f"[{n}]": n for n in range(vocab_size) if n not in vocabulary.values()}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({**filler, **vocabulary}, []))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>"})
    )


def configure(folder: Path, **changes: object) -> None:
    """Replaces settings of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
