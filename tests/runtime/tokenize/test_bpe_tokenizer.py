"""The codec of model files, over a vocabulary small enough to write down."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from furcate.errors import ModelFileError, UsageError
from furcate.runtime.tokenize.merges import BYTE_OF_CHARACTER, read_vocabulary
from furcate.runtime.tokenize.pretokenize import RULES
from furcate.runtime.tokenize.tokenizer import Tokenizer

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "[unused]"]
BYTES = sorted(chr(code) for code in BYTE_OF_CHARACTER)
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ hello", "Ġ Ġ", "< |", "<| im", "i m", "Ã ©"]
MERGED = [merge.replace(" ", "") for merge in MERGES]
USER_DEFINED = ["<tool>", "日本"]
TOKENS = [*CONTROL, *BYTES, *MERGED, *USER_DEFINED]
TYPES = [3, 3, 3, 5, *[1] * len(BYTES + MERGED), 4, 4]


@dataclass
class MemoryHeader:
    """The header of a file that is only a dictionary."""

    metadata: dict[str, object] = field(default_factory=dict)


def header(**changes: object) -> MemoryHeader:
    metadata: dict[str, object] = {
        "general.name": "toy",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": TYPES,
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": "{{ messages }}",
    }
    for key, value in changes.items():
        metadata[f"tokenizer.ggml.{key}"] = value
    return MemoryHeader({key: value for key, value in metadata.items() if value is not None})


TOY = Tokenizer.from_header(header())


def spelled(tokenizer: Tokenizer, text: str) -> list[bytes]:
    return [tokenizer.token_bytes(token_id) for token_id in tokenizer.encode(text)]


def test_merges_make_the_tokens() -> None:
    assert spelled(TOY, "hello hello  hell é") == [
        *(b"hello", b" hello", b" ", b" ", b"hell", b" ", "é".encode()),
    ]


def test_a_user_defined_token_is_matched_in_text() -> None:
    assert spelled(TOY, "x<tool>日本") == [b"x", b"<tool>", "日本".encode()]


def test_the_facts_of_the_file_are_there() -> None:
    assert TOY.vocab_size == len(TOKENS)
    assert TOY.control_ids == {0, 1, 2, 3}
    assert TOY.control("<|im_end|>") == 2
    assert TOY.eos_ids == {0}
    assert TOY.end_of_turn_ids == {0, 2}
    assert (TOY.bos_id, TOY.adds_bos) == (1, False)
    assert TOY.template_variables == {"bos_token": "<|im_start|>", "eos_token": "<|endoftext|>"}
    assert [TOY.table[i] for i in sorted(TOY.control_ids)] == [b""] * 4
    assert TOY.chat_template == "{{ messages }}"


PIECES = st.sampled_from([*CONTROL, "<|im_end", "|>", *USER_DEFINED, "hello", " ", "\n", "é"])
TEXTS = st.lists(st.text(max_size=8) | PIECES, max_size=8).map("".join)


@settings(max_examples=60)
@given(text=TEXTS)
def test_any_text_comes_back_and_gives_no_control_id(text: str) -> None:
    ids = TOY.encode(text)
    assert TOY.decode(ids) == text
    assert not TOY.control_ids.intersection(ids)
    assert TOY.encode_batch([text, "", text]) == [ids, [], ids]


@pytest.mark.parametrize("pre", RULES)
def test_no_rule_and_no_merge_can_make_a_control_token(pre: str) -> None:
    # A vocabulary whose merges, or whose words, spell control tokens.
    tokens = [*TOKENS, "Ġend"]
    made = header(
        pre=pre,
        tokens=tokens,
        token_type=[3, 3, 3, 5, *TYPES[4:], 3],
        merges=[*MERGES, "Ġ e", "Ġe n", "Ġen d"],
    )
    made.metadata["tokenizer.ggml.tokens"] = [*tokens, "Ġe", "Ġen"]
    made.metadata["tokenizer.ggml.token_type"] = [3, 3, 3, 5, *TYPES[4:], 3, 1, 1]
    tokenizer = Tokenizer.from_header(made)
    assert spelled(tokenizer, " end") == [b" en", b"d"]


@pytest.mark.parametrize(
    ("pre", "tokens"),
    [
        ("gpt-2", [b" ", b" ", b"1", b"2"]),
        ("smollm", [b"  ", b"1", b"2"]),
        ("llama-bpe", [b" ", b" ", b"1", b"2"]),
        ("qwen2", [b" ", b" ", b"1", b"2"]),
    ],
)
def test_the_rule_decides_what_a_word_is(pre: str, tokens: list[bytes]) -> None:
    assert spelled(Tokenizer.from_header(header(), pre=pre), "  12") == tokens


def test_a_character_without_tokens_is_an_error_and_does_not_vanish() -> None:
    lacking = [token for token in TOKENS if token != "ñ"]  # the byte 0xF1
    types = [kind for token, kind in zip(TOKENS, TYPES, strict=True) if token != "ñ"]
    tokenizer = Tokenizer.from_header(header(tokens=lacking, token_type=types))
    assert tokenizer.decode(tokenizer.encode("ñ😀")) == "ñ😀"
    for encode in (tokenizer.encode, lambda text: tokenizer.encode_batch(["fine", text])):
        with pytest.raises(UsageError, match=r"character 1 of the text, '\\U00050000', has no"):
            encode("a\U00050000")


def test_half_a_surrogate_pair_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="lone surrogate"):
        TOY.encode("\udc00")


def test_threads_encode_alike() -> None:
    texts = [f"hello {i} <|im_end|> é{i * 'l'}" for i in range(64)]
    expected = [TOY.encode(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(TOY.encode, texts * 4)) == expected * 4


def test_the_fingerprint_follows_what_changes_ids() -> None:
    others = [
        Tokenizer.from_header(header(), pre="qwen2"),
        Tokenizer.from_header(header(merges=MERGES[:-1])),
        Tokenizer.from_header(header(eos_token_id=2)),
        Tokenizer.from_header(header(token_type=[3, 3, 3, 3, *TYPES[4:]])),
        Tokenizer.from_header(header(tokens=[*TOKENS[:-1], "日木"])),
    ]
    prints = {TOY.fingerprint, *(other.fingerprint for other in others)}
    assert len(prints) == len(others) + 1
    assert Tokenizer.from_header(header()).fingerprint == TOY.fingerprint


BROKEN = {
    "another kind": ({"model": "llama"}, "tokenizer is 'llama', only 'gpt2'"),
    "no kind": ({"model": None}, "tokenizer is None"),
    "no rule": ({"pre": None}, r"'tokenizer\.ggml\.pre' is None"),
    "an unknown rule": ({"pre": "mine"}, "pre-tokenizer 'mine' is not supported; known: gpt-2"),
    "no tokens": ({"tokens": []}, r"tokens' must be a non-empty array of strings, got \[\]"),
    "tokens as text": ({"tokens": "abc"}, "must be a non-empty array of strings, got 'abc'"),
    "numbers as tokens": ({"tokens": [1, 2]}, "must be a non-empty array of strings"),
    "a token twice": ({"tokens": [*TOKENS[:-1], "h"]}, "holds a token twice"),
    "too few types": ({"token_type": [1]}, f"must give {len(TOKENS)} tokens a type"),
    "an unknown type": ({"token_type": [9] * len(TOKENS)}, "a type from 1 to 6"),
    "types as fractions": ({"token_type": [1.0] * len(TOKENS)}, "got 0 from"),
    "types as a number": ({"token_type": 3}, "got 0 from 3"),
    "no merges": ({"merges": None}, "merges' must be"),
    "a merge of one": ({"merges": ["he"]}, "merge 0, 'he', does not join"),
    "a merge of strangers": ({"merges": ["h e", "x y"]}, "merge 1, 'x y', does not join"),
    "an end outside": ({"eos_token_id": len(TOKENS)}, "eos_token_id' is"),
    "an end that is text": ({"eos_token_id": "0"}, "eos_token_id' is '0'"),
    "a token outside the alphabet": (
        {"tokens": [*TOKENS[:-1], "日木"], "token_type": [*TYPES[:-1], 1]},
        "'日木', is not spelled in the byte alphabet: '日' stands for no byte",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_vocabulary_is_an_error_that_names_its_place(case: str) -> None:
    changes, message = BROKEN[case]
    with pytest.raises(ModelFileError, match=message):
        Tokenizer.from_header(header(**changes))


def test_a_file_without_types_keeps_its_named_ids_out_of_text() -> None:
    vocabulary = read_vocabulary(header(token_type=None, tokens=["<s>", "</s>", *BYTES, *MERGED]))
    assert vocabulary.control_names() == {"<s>": 0, "</s>": 1}
