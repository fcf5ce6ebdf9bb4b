"""Feeding a StopMatcher in pieces, and what must hold meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from furcate.runtime.scheduler.stops import StopFound, StopMatcher

__all__ = ["assert_safe_is_kept", "push_in_pieces"]


def push_in_pieces(matcher: StopMatcher, text: bytes, data: st.DataObject) -> StopFound | None:
    """What it has found, in pieces of any size."""
    at, found = 0, None
    while at < len(text) and found is None:
        size = data.draw(st.integers(1, len(text) - at))
        found = matcher.push(text[at : at + size])
        at += size
    return found


def assert_safe_is_kept(matcher: StopMatcher, text: bytes) -> None:
    """Byte by byte: what is safe grows, and no stop takes it back."""
    safe = 0
    for at in range(len(text)):
        found = matcher.push(text[at : at + 1])
        if found is not None:
            assert found.cut >= safe
            return
        assert matcher.safe_length >= safe
        safe = matcher.safe_length
