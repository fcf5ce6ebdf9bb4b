"""Which programs' bodies the running code is part of: inside a body a name that is unknown stays
unknown, outside it may still be recorded; and a program that is called there becomes part of it."""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from ._program import Program

__all__ = [
    "Frame",
    "Promise",
    "body_ended",
    "in_body",
    "inside",
    "is_awaited",
    "leave_body",
    "running_body",
]


class Promise(Protocol):
    """Something that the body has begun and must bring to an end itself."""

    def check_kept(self) -> None: ...


@dataclass(eq=False, slots=True)
class Frame:
    """One body that runs, of a program or of one that became part of it. It must not hold the
    program: contexts outlive bodies. `depth` counts the bodies around it of the same program."""

    token: object
    program: weakref.ref[Program]
    depth: int = 0
    promises: list[Promise] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


_frames: ContextVar[tuple[Frame | None, ...]] = ContextVar("furcate_bodies", default=())


@contextmanager
def inside(program: Program) -> Iterator[Frame]:
    """Around the body; tasks that it starts are inside too. A body that ends well must have kept
    its promises."""
    around = _frames.get()
    last = around[-1] if around else None
    depth = last.depth + 1 if last is not None and last.token is program.token else 0
    frame = Frame(program.token, weakref.ref(program), depth)
    before = _frames.set((*around, frame))
    try:
        yield frame
        for promise in frame.promises:
            promise.check_kept()
    finally:
        _frames.reset(before)


def leave_body() -> None:
    """For the rest of this context, which began as a copy of a body's: what runs was called by the
    runtime, and is no part of the body any more."""
    _frames.set((*_frames.get(), None))


def running_body() -> Frame | None:
    """The innermost body; None where what runs is no part of one."""
    frames = _frames.get()
    return frames[-1] if frames else None


def is_awaited() -> bool:
    """Whether a body may be waiting for what runs, of which it may be a part or not."""
    return bool(_frames.get())


def in_body(program: Program) -> bool:
    return any(frame is not None and frame.token is program.token for frame in _frames.get())


def body_ended(program: Program) -> bool:
    return program.recording.done or program.body_error is not None
