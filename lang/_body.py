"""Which programs' bodies the running code is part of: inside a body a name that is unknown stays
unknown, outside it may still be recorded."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._program import Program

__all__ = ["body_ended", "in_body", "inside"]

_tokens: ContextVar[tuple[object, ...]] = ContextVar("furcate_bodies", default=())


@contextmanager
def inside(program: Program) -> Iterator[None]:
    """Around the body; tasks that it starts are inside too."""
    before = _tokens.set((*_tokens.get(), program.token))
    try:
        yield
    finally:
        _tokens.reset(before)


def in_body(program: Program) -> bool:
    return program.token in _tokens.get()


def body_ended(program: Program) -> bool:
    return program.recording.done or program.body_error is not None
