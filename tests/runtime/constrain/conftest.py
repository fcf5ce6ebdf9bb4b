"""Vocabularies and walks for the tests of constrained decoding."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tokenizers
import xgrammar  # noqa: F401  (takes seconds; here no test is blamed for it)
from tokenizers import models, pre_tokenizers, trainers

from furcate.protocol.constraint import Constraint
from furcate.runtime.constrain.compile import compile_recipe
from furcate.runtime.constrain.grammar import CompiledGrammar, Toolkit
from furcate.runtime.constrain.recipe import prepare
from furcate.runtime.constrain.vocabulary import EngineVocabulary
from furcate.runtime.model.catalog import ensure
from furcate.runtime.model.gguf import read_header
from furcate.runtime.tokenize.byte_level import ByteTokenizer
from furcate.runtime.tokenize.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from furcate.runtime.constrain.matcher import ConstrainedMatcher
    from furcate.runtime.constrain.vocabulary import Vocabulary

END_OF_TURN = "<|im_end|>"
_CORPUS = [
    '{"name": "Ada", "age": 36, "tags": ["first", "second"]}',
    '{"name":"Bob","colour":"red","colour_name":"green","value":12.5,"is_valid":true}',
    "The answer is forty-two and the question is unknown. <|im_end|> <|im_start|>",
    '"description": "description of the thing", "thing": null, "é": "naïve"',
]


class MergingTokens:
    """A small byte-level BPE with merges and two control tokens, trained on the spot."""

    fingerprint = "merging-tokens"

    def __init__(self) -> None:
        self._tokenizer = tokenizers.Tokenizer(models.BPE())
        self._tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=500,
            min_frequency=1,
            show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        )
        self._tokenizer.train_from_iterator(_CORPUS * 2, trainer)
        size = self._tokenizer.get_vocab_size()
        by_character = _byte_of_character()
        self.table = [
            bytes(by_character[c] for c in self._tokenizer.id_to_token(i)) for i in range(size)
        ] + [b"<|im_start|>", b"<|im_end|>"]
        self.control_ids = frozenset({size, size + 1})
        self.stop_id = size + 1

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text).ids)


def _byte_of_character() -> dict[str, int]:
    """The alphabet of byte-level BPE: printable bytes stand for themselves."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [byte for byte in range(256) if byte not in kept]
    return {chr(b): b for b in kept} | {chr(256 + i): b for i, b in enumerate(moved)}


@dataclass(frozen=True)
class Walk:
    """A finished or abandoned random walk."""

    ids: list[int]
    text: bytes
    matcher: ConstrainedMatcher
    is_complete: bool


@dataclass(frozen=True)
class Bench:
    """A vocabulary with everything needed to compile for it and walk."""

    vocabulary: Vocabulary
    toolkit: Toolkit
    stop_id: int

    @property
    def num_words(self) -> int:
        return self.toolkit.vocabulary.num_words

    def grammar(self, constraint: Constraint) -> CompiledGrammar:
        return compile_recipe(prepare(constraint), self.toolkit)

    def schema(self, schema: object, **options: str) -> CompiledGrammar:
        return self.grammar(schema_constraint(schema, **options))

    def allowed(self, matcher: ConstrainedMatcher) -> list[int]:
        mask = np.full(self.num_words, -1, np.int32)
        matcher.fill_mask(mask)
        return np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist()

    def accepts(self, grammar: CompiledGrammar, text: str | bytes) -> bool:
        """Whether a text, byte by byte, is complete; needs a vocabulary with every byte."""
        table = self.toolkit.vocabulary.table
        matcher = grammar.matcher([self.stop_id])
        data = text.encode() if isinstance(text, str) else text
        steps = (matcher.accept(table.index(bytes([byte]))) for byte in data)
        return all(steps) and matcher.is_accepting

    def walk(self, grammar: CompiledGrammar, seed: int, *, max_tokens: int = 1500) -> Walk:
        """Random allowed tokens, with a growing preference for what closes the value."""
        rng, table = random.Random(seed), self.toolkit.vocabulary.table
        matcher, ids = grammar.matcher([self.stop_id]), list[int]()
        while len(ids) < max_tokens:
            allowed = self.allowed(matcher)
            assert allowed, (matcher.failure, b"".join(table[i] for i in ids))
            closing = [i for i in allowed if i == self.stop_id or table[i] in _CLOSERS]
            is_closing = closing and rng.random() < 0.2 + len(ids) / 200
            token_id = rng.choice(closing if is_closing else allowed)
            assert matcher.accept(token_id), table[token_id]
            if token_id == self.stop_id:
                break
            ids.append(token_id)
        text = b"".join(table[i] for i in ids)
        return Walk(ids, text, matcher, is_complete=len(ids) < max_tokens)


_CLOSERS = frozenset({b'"', b"}", b"]", b'"}', b'"]', b"null", b"0"})


def schema_constraint(schema: object, **options: str) -> Constraint:
    body = schema if isinstance(schema, str) else json.dumps(schema)
    return Constraint(kind="json_schema", body=body, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def byte_bench() -> Bench:
    """One token a byte; the model's vocabulary is wider than the tokenizer's."""
    vocabulary = ByteTokenizer()
    (stop_id,) = vocabulary.end_of_turn_ids
    return Bench(vocabulary, Toolkit(EngineVocabulary(vocabulary, 300)), stop_id)


@pytest.fixture(scope="session")
def merging_bench() -> Bench:
    vocabulary = MergingTokens()
    size = len(vocabulary.table) + 7
    return Bench(vocabulary, Toolkit(EngineVocabulary(vocabulary, size)), vocabulary.stop_id)


@pytest.fixture(scope="session")
def smollm2_bench() -> Bench:
    """The embedded model's own vocabulary, for tests marked `smollm2`."""
    vocabulary = Tokenizer.from_header(read_header(ensure("smollm2")))
    (stop_id,) = vocabulary.end_of_turn_ids
    return Bench(vocabulary, Toolkit(EngineVocabulary(vocabulary, 49_152)), stop_id)


@pytest.fixture(scope="session")
def make_schema_constraint() -> Callable[..., Constraint]:
    return schema_constraint
