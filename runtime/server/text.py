"""What the front needs of a model: its codec and its chat template, loaded without tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from furcate.runtime.config import ModelConfig
    from furcate.runtime.tokenize.base import TextCodec
    from furcate.runtime.tokenize.template import ChatTemplate

__all__ = ["TEST_PREFIX", "Text", "fetch_model", "load_text", "template_of"]

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


def template_of(codec: TextCodec) -> ChatTemplate | None:
    """None where the model has none: a program that writes no roles needs none."""
    from furcate.runtime.tokenize.template import ChatTemplate

    return None if codec.chat_template is None else ChatTemplate(codec)


def _text(codec: TextCodec) -> Text:
    return Text(codec, template_of(codec))
