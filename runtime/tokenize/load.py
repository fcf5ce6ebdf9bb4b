"""Which codec reads a model's vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.errors import ModelFileError

from .merges import PIECE_MODELS

if TYPE_CHECKING:
    from .base import TextCodec
    from .merges import Header

__all__ = ["codec_of_header"]


def codec_of_header(header: Header) -> TextCodec:
    """Of a model file. ModelFileError for a kind of vocabulary that no codec here reads."""
    model = header.metadata.get("tokenizer.ggml.model")
    # Each import where it is used: a process reads one vocabulary.
    if model == "gpt2":
        from .tokenizer import Tokenizer

        return Tokenizer.from_header(header)
    if model in PIECE_MODELS:
        from .sentence_piece import SentencePieceTokenizer

        return SentencePieceTokenizer.from_header(header)
    known = ", ".join(("gpt2", *PIECE_MODELS))
    raise ModelFileError(
        f"the model file's tokenizer is {model!r}, which is not supported; supported: {known}"
    )
