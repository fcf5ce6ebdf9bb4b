"""How text is cut into words before merges apply: one row for each `tokenizer.ggml.pre`.

To support another vocabulary of the same kind, add its row.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from tokenizers import Regex, pre_tokenizers

from furcate.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RULES", "PreTokenizerRule", "rule_for"]


@dataclass(frozen=True, slots=True)
class PreTokenizerRule:
    """`pattern` None stands for GPT-2's, which the `tokenizers` package has built in."""

    pattern: str | None = None
    single_digits: bool = False  # cut every digit off first
    whole_words: bool = False  # a word that is a token needs no merges

    def build(self) -> pre_tokenizers.PreTokenizer:
        steps: list[pre_tokenizers.PreTokenizer] = []
        if self.single_digits:
            steps.append(pre_tokenizers.Digits(individual_digits=True))
        if self.pattern is not None:
            steps.append(pre_tokenizers.Split(Regex(self.pattern), behavior="isolated"))
        steps.append(
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=self.pattern is None)
        )
        return pre_tokenizers.Sequence(steps)


GPT2 = PreTokenizerRule()

LLAMA3 = PreTokenizerRule(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    whole_words=True,
)

QWEN2 = PreTokenizerRule(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)

RULES: Mapping[str, PreTokenizerRule] = MappingProxyType(
    {
        "gpt-2": GPT2,
        # See docs/design/decisions/0001-digits-before-words.md.
        "smollm": PreTokenizerRule(single_digits=True),
        "llama-bpe": LLAMA3,
        "qwen2": QWEN2,
    }
)


def rule_for(pre: str) -> PreTokenizerRule:
    rule = RULES.get(pre)
    if rule is None:
        raise ModelFileError(
            f"the model file's pre-tokenizer {pre!r} is not supported; known: {', '.join(RULES)}"
        )
    return rule
