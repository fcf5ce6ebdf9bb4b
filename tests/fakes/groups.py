"""Groups on a mock: what tests of them begin with."""

from __future__ import annotations

import furcate as fc

__all__ = ["in_brackets", "is_yes", "numbered", "run"]


def run(body, replies="R", **keywords):
    with fc.Mock(replies) as backend:
        return fc.function(body).run(backend=backend, **keywords)


def numbered(s, texts, name="x"):
    """A child for each text, which has it as a variable."""
    group = s.fork(len(texts))
    for child, text in zip(group, texts, strict=True):
        child += f"[{text}]" + fc.gen(name)
    return group


def is_yes(child):
    return child.ref("x").eq("yes")


def in_brackets(call):
    return call.text.rpartition("[")[2].rstrip("]")
