"""Text to token ids and back, and the form of a conversation.

The codecs of model files are in `tokenizer` and chat templates in `template`: both import more
than these names do.
"""

from .base import TextCodec, Vocabulary
from .byte_level import ByteTokenizer
from .detokenize import IncrementalDecoder

__all__ = ["ByteTokenizer", "IncrementalDecoder", "TextCodec", "Vocabulary"]
