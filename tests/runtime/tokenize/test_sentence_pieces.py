"""The codec of model files with scored pieces, against the package that trained them."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from furcate.errors import ModelFileError, UsageError
from furcate.runtime.tokenize.sentence_piece import SentencePieceTokenizer

CORPUS = [line for line in Path(__file__).read_text().splitlines() if line]
CONTROLS = ["<|turn|>"]
TEXTS = ["Hello world", " leading", "two  spaces", "a\nb\n", "x = {'é': 1}", "", "日本"]


@cache
def trained(model_type: str, byte_fallback: bool = True) -> sentencepiece.SentencePieceProcessor:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        vocab_size=400 if byte_fallback else 150,
        model_type=model_type,
        byte_fallback=byte_fallback,
        control_symbols=CONTROLS,
        user_defined_symbols=["<tool>"],
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@dataclass
class MemoryHeader:
    metadata: dict[str, object] = field(default_factory=dict)


def header(processor: sentencepiece.SentencePieceProcessor, kind: str = "llama") -> MemoryHeader:
    size = range(processor.get_piece_size())

    def token_type(index: int) -> int:
        if processor.is_unknown(index):
            return 2
        if processor.is_control(index):
            return 3
        if processor.is_byte(index):
            return 6
        return 4 if processor.id_to_piece(index) == "<tool>" else 1

    return MemoryHeader(
        {
            "general.name": "toy",
            "tokenizer.ggml.model": kind,
            "tokenizer.ggml.tokens": [processor.id_to_piece(i) for i in size],
            "tokenizer.ggml.scores": [processor.get_score(i) for i in size],
            "tokenizer.ggml.token_type": [token_type(i) for i in size],
            "tokenizer.ggml.bos_token_id": processor.bos_id(),
            "tokenizer.ggml.eos_token_id": processor.eos_id(),
            "tokenizer.ggml.unknown_token_id": processor.unk_id(),
            "tokenizer.chat_template": "{{ messages }}",
        }
    )


KINDS = [("bpe", "llama"), ("unigram", "t5")]


@pytest.mark.parametrize(("model_type", "kind"), KINDS)
def test_a_prompt_is_encoded_as_the_package_encodes_it(model_type: str, kind: str) -> None:
    processor = trained(model_type)
    codec = SentencePieceTokenizer.from_header(header(processor, kind))
    assert (codec.bos_id, codec.eos_ids) == (processor.bos_id(), {processor.eos_id()})
    assert codec.adds_bos
    for text in TEXTS:
        assert codec.encode(codec.placed(text, "start")) == processor.encode(text)
        assert codec.encode_batch([codec.placed(text, "control")]) == [processor.encode(text)]


@pytest.mark.parametrize(("model_type", "kind"), KINDS)
def test_text_that_goes_on_gets_no_space(model_type: str, kind: str) -> None:
    codec = SentencePieceTokenizer.from_header(header(trained(model_type), kind))
    for text in TEXTS:
        assert codec.decode(codec.encode(text)) == codec.placed(text, "text") == text


@given(text=st.text())
def test_any_text_comes_back(text: str) -> None:
    codec = SentencePieceTokenizer.from_header(header(trained("bpe")))
    assert codec.decode(codec.encode(text)) == text


def test_a_vocabulary_may_want_no_space() -> None:
    given = header(trained("bpe"))
    given.metadata["tokenizer.ggml.add_space_prefix"] = False
    codec = SentencePieceTokenizer.from_header(given)
    assert codec.placed("a b", "start") == "a b"


def test_text_spells_no_control_token_and_added_words_stay_whole() -> None:
    codec = SentencePieceTokenizer.from_header(header(trained("bpe")))
    for name in ("<s>", "</s>", "<unk>", "<|turn|>"):
        ids = codec.encode(f"a{name}")
        assert not codec.control_ids.intersection(ids)
        assert codec.decode(ids) == f"a{name}"
    assert b"<tool>" in [codec.token_bytes(i) for i in codec.encode("a<tool>b")]


def test_a_character_without_a_token_is_named() -> None:
    codec = SentencePieceTokenizer.from_header(header(trained("bpe", False)))
    stranger = chr(0x4E03)
    with pytest.raises(UsageError, match=f"character 2 of the text, '{stranger}', has no token"):
        codec.encode("a " + stranger)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model": "gpt2"}, "'gpt2', which has no scored pieces"),
        ({"scores": [1.0]}, "must give .* tokens a finite number, got 1"),
        ({"scores": None}, "must give .* tokens a finite number, got 0"),
        ({"tokens": ["a", "a"]}, "holds a token twice"),
    ],
)
def test_a_broken_header_names_the_fault(changes: dict[str, object], problem: str) -> None:
    given = header(trained("bpe"))
    given.metadata |= {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
    with pytest.raises(ModelFileError, match=problem):
        SentencePieceTokenizer.from_header(given)


def test_a_byte_piece_must_spell_its_byte() -> None:
    given = header(trained("bpe"))
    types = given.metadata["tokenizer.ggml.token_type"]
    assert isinstance(types, list)
    types[-1] = 6
    with pytest.raises(ModelFileError, match="is said to be a byte"):
        SentencePieceTokenizer.from_header(given)
