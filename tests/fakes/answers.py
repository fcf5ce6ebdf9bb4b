"""What a client would say to an Invoke: the same to the same question, whenever it is asked."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from furcate.protocol.message import Answer

if TYPE_CHECKING:
    from furcate.protocol.message import Data, Invoke

__all__ = ["ANSWERED", "answer_to"]

ANSWERED = 100  # functions from here on are answered


def answer_to(invoke: Invoke) -> Answer:
    """Some calls give a text, some a list, some raise; two in three outputs are accepted."""
    kind = invoke.function - ANSWERED
    digest = zlib.crc32(repr((kind, invoke.args)).encode())
    if kind == 1:
        return Answer(invoke.program, invoke.call, None, "call", f"raised {digest % 7}")
    verdict = None if digest % 3 else f"not {digest % 7}"
    data: Data = [verdict, digest % 7, *(["deep"] if digest % 2 else [])]
    return Answer(invoke.program, invoke.call, data if kind == 2 else verdict)
