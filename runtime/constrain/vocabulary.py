"""What the grammar engines are told about a tokenizer, and nothing more.

Both engines mistreat control tokens when they find them by themselves: one allows `<|im_start|>`
inside a JSON string, the other forces the control id where a constant merely spells it. So both
see the vocabulary as bytes, with every control id blank, and the ids that the model has beyond its
tokenizer as blanks too. Stop ids are unknown to the engines; `ConstrainedMatcher` owns them.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import llguidance
    import xgrammar

__all__ = ["EngineVocabulary", "Vocabulary"]


class Vocabulary(Protocol):
    """The part of a tokenizer that constraints need."""

    @property
    def table(self) -> Sequence[bytes]:
        """The bytes of each id, empty for control ids."""
        ...

    @property
    def control_ids(self) -> frozenset[int]: ...

    @property
    def fingerprint(self) -> str:
        """Equal for equal vocabularies; part of every cache key."""
        ...

    def encode(self, text: str) -> list[int]:
        """The canonical ids of a text, never a control id."""
        ...


class EngineVocabulary:
    """One tokenizer for one model's mask, in the form each engine wants; built lazily, shared."""

    def __init__(self, vocabulary: Vocabulary, vocab_size: int) -> None:
        """`vocab_size` is the model's, which may exceed the tokenizer's."""
        self.source = vocabulary
        self.vocab_size = vocab_size
        self.num_words = (vocab_size + 31) // 32
        self.fingerprint = f"{vocabulary.fingerprint}/{vocab_size}"
        self.table: list[bytes] = [
            b"" if token_id in vocabulary.control_ids else token
            for token_id, token in enumerate(vocabulary.table[:vocab_size])
        ]
        self.table += [b""] * (vocab_size - len(self.table))

    def mask_of(self, token_ids: Iterable[int]) -> np.ndarray:
        """A mask with these ids' bits set."""
        words = np.zeros(self.num_words, np.uint32)
        ids = np.fromiter(token_ids, np.int64)
        np.bitwise_or.at(words, ids // 32, np.uint32(1) << (ids % 32).astype(np.uint32))
        return words.view(np.int32)  # [num_words]

    def mask_where(self, predicate: Callable[[bytes], bool]) -> np.ndarray:
        """A mask of the text tokens whose bytes satisfy a predicate."""
        return self.mask_of(i for i, token in enumerate(self.table) if token and predicate(token))

    @cached_property
    def text_mask(self) -> np.ndarray:
        """The ids that stand for text: no control id, no padding."""
        return self.mask_where(lambda _: True)

    @cached_property
    def sorted_tokens(self) -> list[bytes]:
        return sorted(token for token in self.table if token)

    @cached_property
    def xgrammar(self) -> xgrammar.TokenizerInfo:
        import xgrammar  # slow to import, and needed only where this engine is

        return xgrammar.TokenizerInfo(
            self.table,
            xgrammar.VocabType.RAW,
            vocab_size=self.vocab_size,
            stop_token_ids=[],
        )

    @cached_property
    def llguidance(self) -> llguidance.LLTokenizer:
        """Has one id more than the model, the end token that this engine insists on."""
        import llguidance

        # Any object that encodes will do, though the stub asks for a wrapper.
        table: Any = _LlguidanceTable(self.table, self.source.encode)
        return llguidance.LLTokenizer(table, slices=llguidance.LLTokenizer.json_slices())


class _LlguidanceTable:
    """The attributes by which llguidance's constructor reads a tokenizer."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, table: list[bytes], encode: Callable[[str], list[int]]) -> None:
        self.tokens = [*table, b""]
        self.eos_token_id = len(table)
        self.special_token_ids = [i for i, token in enumerate(self.tokens) if not token]
        self._encode = encode

    def __call__(self, text: str) -> list[int]:
        # Grammars are compiled with `no_forcing`, so the engine has no reason to tokenize.
        return self._encode(text)
