"""What the front needs of a model: its codec and its chat template, loaded without tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from furcate.errors import ModelFileError

if TYPE_CHECKING:
    from furcate.runtime.config import ModelConfig
    from furcate.runtime.tokenize.base import TextCodec
    from furcate.runtime.tokenize.template import ChatTemplate

__all__ = ["TEST_PREFIX", "Text", "check_vocabulary", "fetch_model", "load_text", "template_of"]

TEST_PREFIX = "test:"  # names of models that are programs: no files, for tests


class Text(NamedTuple):
    codec: TextCodec
    template: ChatTemplate | None


def fetch_model(config: ModelConfig) -> None:
    """Downloads the model where it is one that can be and is not here; else checks the name."""
    if config.name.startswith(TEST_PREFIX):
        return
    from furcate.runtime.model.catalog import ensure

    ensure(config.name)


def load_text(config: ModelConfig) -> Text:
    """Codec and template of the model of that name."""
    # Each import where it is used: what scripts and files need differs much in weight.
    if config.name.startswith(TEST_PREFIX):
        from furcate.runtime.tokenize.byte_level import ByteTokenizer

        return _text(ByteTokenizer(name=config.name))
    from furcate.runtime.model.catalog import resolve

    path = resolve(config.name)
    if path.is_dir():
        from furcate.runtime.tokenize.hf import FolderTokenizer

        return _text(FolderTokenizer.from_folder(path))
    from furcate.runtime.model.gguf import read_header
    from furcate.runtime.tokenize.load import codec_of_header

    return _text(codec_of_header(read_header(path)))


def check_vocabulary(codec: TextCodec, vocab_size: int) -> None:
    """ModelFileError where text may become a token that the model has no embedding of. Control
    tokens without one, as Gemma 3 has for pictures, are never written by a text."""
    table, controls = codec.table, codec.control_ids
    for token_id in range(vocab_size, len(table)):
        if table[token_id] and token_id not in controls:
            raise ModelFileError(
                f"the tokenizer of {codec.name} has {len(table)} tokens and the model embeddings "
                f"of {vocab_size}: token {token_id}, {table[token_id][:20]!r}, has none; tokenizer "
                "and weights are of different models, or one of them is old: fetch both again"
            )


def template_of(codec: TextCodec) -> ChatTemplate | None:
    """None where the model has none: a program that writes no roles needs none."""
    from furcate.runtime.tokenize.template import ChatTemplate

    return None if codec.chat_template is None else ChatTemplate(codec)


def _text(codec: TextCodec) -> Text:
    return Text(codec, template_of(codec))
