"""The codec of a transformers folder, against transformers reading the same folder.

The vocabularies are learnt here, in the shapes that model families have: byte-level BPE, BPE as
SentencePiece makes it (with bytes to fall back on, and a space before the first word, always or at
the start of a text alone), and Unigram.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tokenizers
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

from furcate.errors import ModelFileError, UsageError
from furcate.runtime.tokenize.hf import FolderTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

CORPUS = Path(__file__).read_text()
CONTROLS = ["<unk>", "<s>", "</s>", "<|im_end|>"]
ALPHABET = sorted(set(CORPUS))
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def byte_level() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=CONTROLS,
        show_progress=False,
    )
    made.train_from_iterator([CORPUS], trainer)
    return made


def sentence_piece(prefix: str) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Replace(" ", "\u2581")
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=[*CONTROLS, *BYTES], show_progress=False
    )
    made.train_from_iterator([CORPUS.replace("\n", " ")], trainer)
    if prefix == "always":
        made.normalizer = normalizers.Sequence(
            [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
        )
    elif prefix == "first":
        made.normalizer = None
        made.pre_tokenizer = pre_tokenizers.Metaspace(
            replacement="\u2581", prepend_scheme="first", split=False
        )
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    rules = json.loads(made.to_str())
    rules["added_tokens"] = [t for t in rules["added_tokens"] if not t["content"].startswith("<0x")]
    return tokenizers.Tokenizer.from_str(json.dumps(rules))


def unigram() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=500, special_tokens=CONTROLS, unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator([CORPUS], trainer)
    return made


KINDS: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    "byte-level": byte_level,
    "sentencepiece, prefix always": lambda: sentence_piece("always"),
    "sentencepiece, prefix first": lambda: sentence_piece("first"),
    "sentencepiece, no prefix": lambda: sentence_piece("never"),
    "unigram": unigram,
}


class Folder:
    def __init__(self, path: Path, kind: str) -> None:
        backend = KINDS[kind]()
        bos = backend.token_to_id("<s>")
        backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
        backend.add_tokens([AddedToken("<tool>", normalized=False)])
        self.reference = transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend,
            bos_token="<s>",
            eos_token="</s>",
            unk_token="<unk>",
            chat_template="{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}",
        )
        self.reference.save_pretrained(path)
        (path / "generation_config.json").write_text(
            json.dumps({"eos_token_id": [backend.token_to_id(t) for t in ("</s>", "<|im_end|>")]})
        )
        self.codec = FolderTokenizer.from_folder(path)
        self.path = path


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("model"), request.param)


TEXTS = ["Hello world", " leading", "two  spaces", "a\nb\n\n", "x = {'é': 1}", "", "def f():"]


def test_a_prompt_is_encoded_as_transformers_encodes_it(folder: Folder) -> None:
    codec = folder.codec
    assert codec.adds_bos
    for text in TEXTS:
        if "é" in text and "unigram" in str(folder.reference.backend_tokenizer.model).lower():
            continue
        ids = folder.reference(text)["input_ids"]
        assert [codec.bos_id, *codec.encode(codec.placed(text, "start"))] == ids


def test_text_behind_a_control_token_is_encoded_as_transformers_does(folder: Folder) -> None:
    codec = folder.codec
    for text in TEXTS:
        ids = folder.reference("</s>" + text + "</s>", add_special_tokens=False)["input_ids"]
        end = codec.control("</s>")
        assert ids == [end, *codec.encode(codec.placed(text, "control")), end]


def test_text_that_goes_on_reads_as_it_is(folder: Folder) -> None:
    codec = folder.codec
    for text in TEXTS:
        assert codec.decode(codec.encode(text)) == text
        assert codec.encode_batch([text, text]) == [codec.encode(text)] * 2


def test_a_space_that_is_put_before_a_text_is_its_only_change(folder: Folder) -> None:
    codec = folder.codec
    for text in TEXTS:
        assert codec.placed(text, "text") == text
        assert codec.placed(text, "start") in (text, " " + text)
        assert codec.placed(text, "control") in (text, codec.placed(text, "start"))


def test_text_spells_no_control_token_and_added_words_stay_whole(folder: Folder) -> None:
    codec = folder.codec
    for name in CONTROLS[1:]:
        for text in (name, f"a{name}b", f" {name} "):
            assert not codec.control_ids.intersection(codec.encode(text))
            assert codec.decode(codec.encode(text)) == text
    whole = folder.reference.convert_tokens_to_ids("<tool>")
    assert whole in codec.encode("a<tool>b")
    assert codec.token_bytes(whole) == b"<tool>"


def test_all_ends_of_the_generation_config_count(folder: Folder) -> None:
    codec = folder.codec
    assert codec.eos_ids == {codec.control("</s>"), codec.control("<|im_end|>")}
    assert codec.end_of_turn_ids == codec.eos_ids
    assert codec.template_variables["eos_token"] == "</s>"
    assert codec.chat_template is not None


@given(text=st.text())
def test_any_text_comes_back_where_bytes_are_tokens(folder: Folder, text: str) -> None:
    codec = folder.codec
    if codec._unknown_id is None:  # else some text is refused: see below
        assert codec.decode(codec.encode(text)) == text


def test_a_character_without_a_token_is_named(tmp_path: Path) -> None:
    codec = Folder(tmp_path, "unigram").codec
    stranger = chr(0x4E03)
    with pytest.raises(UsageError, match=f"character 3 of the text, '{stranger}', has no token"):
        codec.encode("ab " + stranger)


def change(path: Path, **parts: Any) -> None:
    file = path / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | parts))


def test_broken_folders_name_the_file_and_the_fault(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"tokenizer.json is not there"):
        FolderTokenizer.from_folder(tmp_path)
    Folder(tmp_path, "byte-level")
    change(tmp_path, model={"type": "WordPiece", "vocab": {}})
    with pytest.raises(ModelFileError, match="'WordPiece' is not supported; supported: BPE"):
        FolderTokenizer.from_folder(tmp_path)
    change(tmp_path, model={"type": "BPE", "vocab": 3})
    with pytest.raises(ModelFileError, match=r"'model.vocab' must be"):
        FolderTokenizer.from_folder(tmp_path)
    change(tmp_path, model={"type": "BPE", "vocab": {"日": 700}, "merges": []})
    with pytest.raises(ModelFileError, match="'日' is not spelled in the byte alphabet"):
        FolderTokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelFileError, match="is no JSON"):
        FolderTokenizer.from_folder(tmp_path)


def test_a_template_of_several_or_in_a_file_of_its_own(tmp_path: Path) -> None:
    Folder(tmp_path, "byte-level")
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    config = tmp_path / "tokenizer_config.json"
    settings = json.loads(config.read_text())
    settings["chat_template"] = [
        {"name": "tool_use", "template": "t"},
        {"name": "default", "template": "d"},
    ]
    config.write_text(json.dumps(settings))
    assert FolderTokenizer.from_folder(tmp_path).chat_template == "d"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert FolderTokenizer.from_folder(tmp_path).chat_template == "file"
