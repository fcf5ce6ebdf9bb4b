"""A codec whose tokens are the 256 bytes and a few named control tokens.

For models that are scripts rather than files: it needs no file and imports nothing heavy.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from .base import Vocabulary, utf8

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CHATML", "ByteTokenizer"]

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

NUM_BYTES = 256


class ByteTokenizer(Vocabulary):
    """Id b is byte b; the control tokens follow from 256 on, in the order given.

    `eos` ends both a sequence and a turn; None: the tokens have no end.
    """

    def __init__(
        self,
        specials: Sequence[str] = ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        *,
        eos: str | None = "<|im_end|>",
        chat_template: str | None = CHATML,
        name: str = "bytes",
    ) -> None:
        names = {special: NUM_BYTES + index for index, special in enumerate(specials)}
        ends = frozenset[int]() if eos is None else frozenset({names[eos]})
        facts = "\0".join(["bytes", *specials, f"eos={eos}"])
        super().__init__(
            name=name,
            table=[bytes([byte]) for byte in range(NUM_BYTES)] + [b""] * len(names),
            control_names=names,
            eos_ids=ends,
            bos_id=None,
            adds_bos=False,
            end_of_turn_ids=ends,
            fingerprint=hashlib.sha256(facts.encode()).hexdigest(),
            chat_template=chat_template,
            template_variables={} if eos is None else {"eos_token": eos},
        )

    def encode(self, text: str) -> list[int]:
        return list(utf8(text))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]
