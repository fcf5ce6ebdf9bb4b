"""The progress bar of `run_batch`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._state import ProgramState

__all__ = ["with_progress"]


def with_progress(states: Iterator[ProgramState], total: int, name: str) -> Iterator[ProgramState]:
    """The same states, with a bar on standard error while they come."""
    from rich.console import Console  # wanted only here
    from rich.progress import track

    yield from track(states, description=name, total=total, console=Console(stderr=True))
