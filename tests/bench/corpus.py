"""The benchmark's text: the docstrings of the standard library, the same on every machine with the
same Python."""

from __future__ import annotations

import ast
import functools
import random
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from furcate.runtime.tokenize.base import TextCodec

__all__ = ["Corpus", "docstrings"]

LEAST_CHARS = 200


@functools.cache
def docstrings() -> tuple[str, ...]:
    """Those of some length, in the order of the files. Parsing them all takes two seconds."""
    found = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        try:
            tree = ast.parse(path.read_text(errors="ignore"))
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node)
                if text and len(text) > LEAST_CHARS:
                    found.append(text)
    return tuple(found)


class Corpus:
    """Pieces of the docstrings, drawn with a seed: another seed gives another draw of the same
    shape."""

    def __init__(self, codec: TextCodec, seed: int) -> None:
        self.codec = codec
        self.random = random.Random(seed)
        self.texts = docstrings()
        self._ids = [i for ids in codec.encode_batch([f"{t}\n\n" for t in self.texts]) for i in ids]

    def ids(self, num_tokens: int) -> list[int]:
        start = self.random.randrange(len(self._ids) - num_tokens)
        return self._ids[start : start + num_tokens]

    def text(self, num_tokens: int) -> str:
        """About that many tokens as text: a cut inside a character loses the character."""
        return self.codec.decode(self.ids(num_tokens)).replace("\ufffd", "")
