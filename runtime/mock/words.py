"""A codec whose tokens are words: a run of white space with the word behind it.

It learns each word when it first meets it, so any text has ids and reads back as it was. Roles read
as ChatML. Not immutable as other codecs are: one thread at a time.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from furcate.runtime.tokenize.base import Vocabulary, utf8
from furcate.runtime.tokenize.byte_level import CHATML
from furcate.runtime.tokenize.template import ChatTemplate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["WordTokenizer", "chat_template", "words_of"]

BEGIN = "<|startoftext|>"  # a prompt may be empty: this then stands before the generation
CONTROLS = (BEGIN, "<|im_start|>", "<|im_end|>")

words_of = re.compile(r"\s*\S+|\s+").findall


class WordTokenizer(Vocabulary):
    """`control` takes any name: a mock stands for any model."""

    def __init__(self) -> None:
        super().__init__(
            name="mock",
            table=[b""] * len(CONTROLS),
            control_names={name: index for index, name in enumerate(CONTROLS)},
            eos_ids=frozenset(),
            bos_id=0,
            adds_bos=False,
            end_of_turn_ids=frozenset({2}),
            fingerprint="mock",
            chat_template=CHATML,
            template_variables={},
        )
        self._ids: dict[str, int] = {}
        self._others: dict[str, int] = {}  # control tokens that the templates do not know
        self._spellings = ["", *CONTROLS[1:]]

    def encode(self, text: str) -> list[int]:
        known = self._ids
        return [known[word] if word in known else self._learn(word) for word in words_of(text)]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def spell(self, ids: Iterable[int]) -> str:
        """The text of the ids, control tokens by their names."""
        return "".join(map(self._spellings.__getitem__, ids))

    def control(self, name: str) -> int:
        found = self.control_names.get(name, self._others.get(name))
        if found is None:
            found = self._others[name] = self._add(name)
        return found

    def _learn(self, word: str) -> int:
        new = self._ids[word] = self._add(word)
        return new

    def _add(self, spelling: str) -> int:
        self.table.append(utf8(spelling))
        self._spellings.append(spelling)
        return len(self._spellings) - 1


@lru_cache(1)
def chat_template() -> ChatTemplate:
    """The same for all: it knows the control tokens alone, which have the same ids in each."""
    return ChatTemplate(WordTokenizer())
